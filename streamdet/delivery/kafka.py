"""Events to a Kafka topic; acknowledged is what all in-sync replicas have."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from streamdet.config import KafkaConfig, secret_of
from streamdet.delivery.outcome import Refused, Unreachable
from streamdet.errors import DependencyError
from streamdet.protocols import EventLog
from streamdet.types import StoredEvent

__all__ = ["KafkaDestination"]

log = logging.getLogger(__name__)

CONNECT_S = 10.0
GIVEN_UP_MS = 15_000


class KafkaDestination:
    """One topic, written by an idempotent producer; the key is the stream, the header ``id`` that of the event.

    Within a connection events of a stream are neither lost, doubled nor reordered; after one that broke, what was not
    acknowledged is written again.
    """

    window = 1000

    def __init__(self, config: KafkaConfig, events: EventLog, *, name: str) -> None:
        """Raises DependencyError, ConfigError."""
        try:
            import confluent_kafka  # noqa: F401
        except ImportError:
            raise DependencyError("Kafka needs the package confluent-kafka: pip install 'streamdet[kafka]'") from None
        secret_of(config.password, config.password_file, "kafka.password")
        self._config, self._log, self._name = config, events, name
        self._producer: Any = None
        self._under_way: deque[list[Any]] = deque()  # [event, settled]
        self._failure: Unreachable | None = None
        self._settled = self._dead = 0

    @property
    def address(self) -> str:
        return f"kafka{'s' if self._config.tls else ''}://{self._config.brokers}/{self._config.topic}"

    @property
    def settled(self) -> int:
        return self._settled

    @property
    def dead(self) -> int:
        return self._dead

    def open(self, wake: Callable[[], None]) -> None:
        from confluent_kafka import KafkaException, Producer

        self._under_way.clear()
        self._failure = None
        try:
            self._producer = Producer(self._settings(), logger=_Quiet(log))
            self._producer.list_topics(self._config.topic, timeout=CONNECT_S)
        except KafkaException as error:
            self._producer_failed()
            raise self._failure or Unreachable(f"{self.address}: {_words(error.args[0])}") from None
        except ValueError as error:
            raise Refused(f"{self.address}: {error}; check kafka.options") from None

    def send(self, events: Sequence[StoredEvent]) -> None:
        for event in events:
            entry = [event, False]
            self._under_way.append(entry)
            self._produce(event, entry)

    def attend(self, *, caught_up: bool) -> None:
        self._producer.poll(0.02 if self._under_way else 0)
        while self._under_way and self._under_way[0][1]:
            self._settled = self._under_way.popleft()[0].seq
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(1)

    # ----------------------------------------------------------------------------------------------------------- inside

    def _settings(self) -> dict[str, Any]:
        config = self._config
        password = secret_of(config.password, config.password_file, "kafka.password")
        kind = ("SASL_" if config.user else "") + ("SSL" if config.tls or config.ca_file else "PLAINTEXT")
        settings: dict[str, Any] = {
            "bootstrap.servers": config.brokers,
            "client.id": "streamdet",
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": GIVEN_UP_MS,
            "security.protocol": kind,
            "error_cb": self._on_error,
        }
        if config.user:
            settings |= {"sasl.mechanism": "PLAIN", "sasl.username": config.user, "sasl.password": password or ""}
        if config.ca_file:
            settings["ssl.ca.location"] = config.ca_file
        return settings | config.options

    def _produce(self, event: StoredEvent, entry: list[Any]) -> None:
        from confluent_kafka import KafkaException

        def told(error: Any, message: Any) -> None:
            if error is None:
                entry[1] = True
            elif _is_about_the_event(error):
                self._bury(event, entry, error)
            elif self._failure is None and self._producer is not None:
                self._failure = Unreachable(f"{self.address}: {_words(error)}")

        for _ in range(100):
            try:
                self._producer.produce(
                    self._config.topic, event.json, key=event.stream, headers={"id": event.id}, on_delivery=told
                )
                return
            except BufferError:  # librdkafka's own queue is full
                self._producer.poll(0.1)
            except KafkaException as error:
                if not _is_about_the_event(error.args[0]):
                    raise Unreachable(f"{self.address}: {_words(error.args[0])}") from None
                self._bury(event, entry, error.args[0])
                return
        raise Unreachable(f"{self.address}: its queue stays full")

    def _bury(self, event: StoredEvent, entry: list[Any], error: Any) -> None:
        self._log.bury(self._name, event, _words(error))
        self._dead += 1
        entry[1] = True

    def _on_error(self, error: Any) -> None:
        """What librdkafka says between messages; only when no broker is left or we are refused is it our failure."""
        from confluent_kafka import KafkaError

        if error.code() in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
            self._failure = Refused(f"{self.address}: {_words(error)}")
        elif (error.code() == KafkaError._ALL_BROKERS_DOWN or error.fatal()) and self._failure is None:
            self._failure = Unreachable(f"{self.address}: {_words(error)}")

    def _producer_failed(self) -> None:
        """Let errors that wait be told, then let go of the producer."""
        if self._producer is not None:
            self._producer.poll(0)
            self.close()


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """librdkafka's own lines, several for every attempt: a broker that is away for days must fill no log. We tell of it."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        super().log(logging.DEBUG, msg, *args, **more)


def _is_about_the_event(error: Any) -> bool:
    from confluent_kafka import KafkaError

    return error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)


def _words(error: Any) -> str:
    return str(error.str() if hasattr(error, "str") else error)
