"""All destinations of a configuration, served from one event store."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from streamdet.config import Config, OnlyConfig
from streamdet.delivery.courier import Courier
from streamdet.delivery.outcome import DeliveryStatus, Destination
from streamdet.errors import ConfigError
from streamdet.protocols import EventLog

__all__ = ["Deliveries", "Undelivered"]

log = logging.getLogger(__name__)

SETTLE_S = 2.0  # a destination that is changed gets so long for what is under way
GRACE_S = 12.0  # beyond the drain time: a connection attempt in progress runs into its own time-out first


class Store(EventLog, Protocol):
    """What deliveries need of the event store."""

    @property
    def opened_seq(self) -> int: ...
    def sync(self, timeout_s: float | None = None) -> bool: ...


class Undelivered(NamedTuple):
    """What a destination had not got at the end."""

    name: str
    address: str
    events: int
    why: str | None


class _Wanted(NamedTuple):
    """A destination as configured, not made yet."""

    kind: str
    settings: Any
    only: OnlyConfig


class Deliveries:
    """A courier thread per configured destination, from entering to leaving; leaving drains for `config.store.drain_s`.

    `cameras` and `facts` say what is told beside events (MQTT statuses and statistics). Nothing here raises once entered: trouble
    of a destination is in ``status()`` and the log. After leaving, ``ended`` says how each did and
    ``undelivered`` what was not taken.

    Raises:
        DependencyError: a destination's package is missing. ConfigError: a setting or secret that cannot be.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        cameras: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        facts: Callable[[], Mapping[str, Any]] = dict,
        from_start: bool = False,
    ) -> None:
        """`from_start`: everything in the store, whatever was delivered before."""
        self._from_start = from_start
        self._config = config
        self._store = store
        self._cameras, self._facts = cameras, facts
        self._drain_s = config.store.drain_s
        self._closed = False
        self._started_s = time.monotonic()
        self._couriers: dict[str, tuple[_Wanted, Courier]] = {}
        self.undelivered: list[Undelivered] = []
        self.ended: list[DeliveryStatus] = []
        for name, wanted in _wanted(config).items():
            self._couriers[name] = wanted, self._courier(name, wanted, self._make(name, wanted))

    def __enter__(self) -> Self:
        for _, courier in self._couriers.values():
            courier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close(abort=isinstance(error, KeyboardInterrupt))

    def close(self, *, abort: bool = False) -> None:
        """Drain and stop; with `abort`, stop as soon as may be."""
        already, self._closed = self._closed, True
        if not already:
            self._finish([courier for _, courier in self._couriers.values()], 0.0 if abort else self._drain_s)

    def hurry(self) -> None:
        """What is still to be delivered stays in the store: whoever is waiting for the end need not wait long."""
        for _, courier in list(self._couriers.values()):
            courier.stop(0.0)
        self._drain_s = 0.0

    def status(self) -> list[DeliveryStatus]:
        return [courier.status() for _, courier in list(self._couriers.values())]  # a reload may go on

    def reload(self, config: Config) -> list[str]:
        """Take over another configuration: destinations that changed are stopped and begun anew from their cursors.

        Returns what was done, in words. Raises ConfigError, DependencyError before anything is changed.
        """
        wanted = _wanted(config)
        fresh = {name: w for name, w in wanted.items() if name not in self._couriers or self._couriers[name][0] != w}
        gone = [name for name in self._couriers if name not in wanted]
        made = {name: self._make(name, w) for name, w in fresh.items()}  # may refuse, and then nothing has changed
        stopped = {name: self._couriers.pop(name)[1] for name in (*gone, *fresh) if name in self._couriers}
        self._finish(list(stopped.values()), SETTLE_S, note=False)
        self._config = config
        for name, destination in made.items():
            courier = self._courier(name, fresh[name], destination)
            self._couriers[name] = fresh[name], courier
            courier.start()
        return [
            *(f"destination {name} removed" for name in gone),
            *(f"destination {name} {'changed' if name in stopped else 'added'}" for name in made),
        ]

    def _finish(self, couriers: list[Courier], drain_s: float, *, note: bool = True) -> None:
        last_s = time.monotonic() + drain_s + GRACE_S
        try:
            if couriers and drain_s:
                self._store.sync(drain_s)
            for courier in couriers:
                courier.stop(drain_s)
            for courier in couriers:
                courier.join(max(0.0, last_s - time.monotonic()))
        except BaseException:  # somebody pressed Ctrl-C once more
            for courier in couriers:
                courier.stop(0.0)
            raise
        for courier in couriers:
            self._store.retire(courier.name)
            status = courier.status()
            if note:
                self.ended.append(status)
            if note and status.pending:
                self.undelivered.append(Undelivered(status.name, status.address, status.pending, status.last_error))
                log.warning("%d events were not delivered to %s (%s)", status.pending, status.name, status.last_error)

    # ---------------------------------------------------------------------------------------------------------- making

    def _courier(self, name: str, wanted: _Wanted, destination: Destination) -> Courier:
        return Courier(name, destination, self._store, kind=wanted.kind, only=wanted.only, from_start=self._from_start)

    def _make(self, name: str, wanted: _Wanted) -> Destination:
        settings = wanted.settings
        if wanted.kind == "mqtt":
            from streamdet.delivery.mqtt import MqttDestination

            return MqttDestination(
                settings,
                self._store,
                since_seq=self._store.opened_seq,
                cameras=self._cameras,
                facts=self._tell,
            )
        if wanted.kind == "webhook":
            from streamdet.delivery.webhook import WebhookDestination

            return WebhookDestination(settings, self._store, name=name)
        if wanted.kind == "kafka":
            from streamdet.delivery.kafka import KafkaDestination

            return KafkaDestination(settings, self._store, name=name)
        if wanted.kind == "postgres":
            from streamdet.delivery.postgres import PostgresDestination

            return PostgresDestination(settings, self._store, name=name)
        from streamdet.delivery.event_log import EventLogDestination

        return EventLogDestination(settings)

    def _tell(self) -> dict[str, Any]:
        """The statistics that MQTT gets."""
        deliveries = [
            {"name": s.name, "state": s.state, "pending": s.pending, "delivered": s.delivered, "dead": s.dead}
            for s in self.status()
        ]
        uptime_s = round(time.monotonic() - self._started_s, 1)
        return {"uptime_s": uptime_s, **self._facts(), "deliveries": deliveries}


def _wanted(config: Config) -> dict[str, _Wanted]:
    """The destinations by the names under which the store keeps their cursors. Raises ConfigError for two of one name."""
    named: dict[str, _Wanted] = {}
    for kind in ("mqtt", "kafka", "postgres", "event_log"):
        settings = getattr(config, kind)
        if settings is not None:
            named[kind] = _Wanted(kind, settings, settings.only)
    for hook in config.webhooks:
        name = f"webhook-{hook.name or _name_of(str(hook.url))}"
        if name in named:
            raise ConfigError(f"webhooks: two are called '{name}'; give each a `name` of its own")
        named[name] = _Wanted("webhook", hook, hook.only)
    return named


def _name_of(address: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", address.partition("://")[2].partition("/")[0]).strip("-")
