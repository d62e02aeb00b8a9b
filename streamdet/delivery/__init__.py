"""Events on their way to others: MQTT, webhooks, Kafka, PostgreSQL, files; each at its own pace, in order, at least once."""

from streamdet.delivery.deliveries import Deliveries, Undelivered
from streamdet.delivery.outcome import DeliveryStatus

__all__ = ["Deliveries", "DeliveryStatus", "Undelivered"]
