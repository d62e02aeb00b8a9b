"""Where events are kept and to whom they are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from streamdet.config.hidden import Hidden, HiddenAddress
from streamdet.config.tree import Node, NonNegative, Positive, Size
from streamdet.errors import ConfigError

__all__ = [
    "EventLogConfig",
    "KafkaConfig",
    "MqttConfig",
    "OnlyConfig",
    "PostgresConfig",
    "StoreConfig",
    "WebhookConfig",
    "secret_of",
]

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
EventKind = Literal["new", "update", "end", "enter", "leave", "cross", "dwell"]


class StoreConfig(Node, frozen=True):
    """The event store: one SQLite file. An event takes about 0.5 kB, one with a long path up to 10 kB."""

    path: str | None = None  # None: streamdet-events.db for `serve`, a temporary one for `run`
    keep_days: Positive = 30.0
    keep_events: Size = 1_000_000
    keep_undelivered: Size = 1_000_000  # not yet delivered events are never dropped below this many, whatever their age
    memory_events: Size = 20_000  # held in memory while the file cannot be written (disk full); beyond it the oldest go
    drain_s: NonNegative = 10.0  # at the end, wait so long for destinations to take what is left


class OnlyConfig(Node, frozen=True):
    """Which events a destination wants; an empty list: all. (MQTT's counts and statuses are of everything.)"""

    streams: list[str] = []
    types: list[EventKind] = []
    labels: list[str] = []
    zones: list[str] = []


class MqttConfig(Node, frozen=True):
    """An MQTT broker. Messages have QoS 1; an event counts as delivered when the broker has acknowledged it."""

    host: str
    port: Port | None = None  # None: 1883, with TLS 8883
    user: str | None = None
    password: Hidden | None = None  # ${NAME} takes it from the environment
    password_file: str | None = None  # ... or the first line of this file
    tls: bool = False
    ca_file: str | None = None  # None: the system's authorities
    cert_file: str | None = None  # our own certificate, if the broker asks for one
    key_file: str | None = None
    client_id: str | None = None
    prefix: str = "streamdet"  # topics are PREFIX/STREAM/events, PREFIX/events, PREFIX/available, ...
    frigate: bool = True  # PREFIX/events: the life of each object, in the form Frigate's users know
    discovery: bool = False  # tell Home Assistant what there is
    discovery_prefix: str = "homeassistant"
    stats_s: Positive = 60.0  # PREFIX/stats and PREFIX/STREAM/status at least this often
    only: OnlyConfig = OnlyConfig()


class WebhookConfig(Node, frozen=True):
    """An address that gets each event by POST, signed as https://www.standardwebhooks.com says if there is a secret."""

    url: HiddenAddress
    name: str | None = None  # of its cursor in the store; None: made from the address
    secret: Hidden | None = None  # whsec_BASE64, or any text
    secret_file: str | None = None
    headers: dict[str, Hidden] = {}  # e.g. Authorization: Bearer ${TOKEN}
    timeout_s: Positive = 10.0  # for a whole request
    batch: Size = 1  # above 1: several events in one request, as a JSON array
    refusals: Size = 5  # an event refused so often (400, 410, 413, 422) is put aside as a dead letter
    ca_file: str | None = None
    only: OnlyConfig = OnlyConfig()


class KafkaConfig(Node, frozen=True):
    """A Kafka topic; the key is the stream, so that a stream's events stay in order."""

    brokers: str  # host:port, ...
    topic: str = "streamdet.events"
    user: str | None = None
    password: Hidden | None = None
    password_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    options: dict[str, str] = {}  # further settings of librdkafka, e.g. sasl.mechanism: SCRAM-SHA-512
    only: OnlyConfig = OnlyConfig()


class PostgresConfig(Node, frozen=True):
    """A PostgreSQL table; it is created if it is not there."""

    url: HiddenAddress  # postgresql://user@host:5432/database
    password: Hidden | None = None
    password_file: str | None = None
    table: str = "streamdet_events"  # or SCHEMA.TABLE
    batch: Size = 500
    only: OnlyConfig = OnlyConfig()


class EventLogConfig(Node, frozen=True):
    """A file of JSON lines that is turned over when it is large or old; one moved away (logrotate) is begun anew."""

    path: str
    rotate_mb: Positive | None = 100.0  # None: never
    rotate_hours: Positive | None = None
    keep: Size = 10  # PATH.1 is the youngest of the old ones
    only: OnlyConfig = OnlyConfig()


def secret_of(value: Hidden | None, file: str | None, what: str) -> str | None:
    """A secret given directly or as the first line of a file, read when it is used. Raises ConfigError."""
    if value is not None and file is not None:
        raise ConfigError(f"{what} is given twice, directly and by {what}_file; leave one away")
    if file is None:
        return None if value is None else value.reveal()
    try:
        lines = Path(os.path.expanduser(file)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}_file {file}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{what}_file {file} is empty; its first line must be the {what}")
    return lines[0]
