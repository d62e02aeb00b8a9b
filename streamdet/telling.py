"""What a run tells others: an event store of its own, and the destinations that are served from it until the end."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdet.config import Config
from streamdet.errors import UndeliveredError
from streamdet.protocols import Rules, Sink

if TYPE_CHECKING:
    from streamdet.delivery import Deliveries
    from streamdet.sinks.store import EventStore

__all__ = ["Telling", "has_destinations", "open_telling"]

log = logging.getLogger(__name__)


def has_destinations(config: Config) -> bool:
    """Whether anybody is to be told of events."""
    return any((config.mqtt, config.webhooks, config.kafka, config.postgres, config.event_log))


def open_telling(config: Config, opened: contextlib.ExitStack) -> Telling | None:
    """None if there is neither a store nor a destination. Raises OutputError, ConfigError, DependencyError."""
    if config.store.path is None and not has_destinations(config):
        return None
    return Telling(config, opened)


class Telling:
    """A store (the given one, or a temporary one) and its deliveries. ``finish`` drains; `opened` closes what is left."""

    def __init__(self, config: Config, opened: contextlib.ExitStack) -> None:
        from streamdet.delivery import Deliveries
        from streamdet.sinks.store import EventStore

        self._config = config
        self._scratch: Path | None = None
        self._all_delivered = False
        if config.store.path is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="streamdet-"))
            opened.callback(self._forget)
        path = config.store.path or str(self._scratch / "events.db" if self._scratch else "")
        self._begun = self._told = False
        self.store: EventStore = opened.enter_context(EventStore(path, config.store))
        self.deliveries: Deliveries = opened.enter_context(Deliveries(config, self.store))
        self._begun = True

    def rules(self, rules: Rules) -> Rules:
        """`rules` whose events are numbered and in the store."""
        from streamdet.sinks.store_sink import Recorded

        return Recorded(rules, self.store)

    def sink(self) -> Sink:
        from streamdet.sinks.store_sink import StoreSink

        return StoreSink(self.store)

    def finish(self, *, abort: bool = False) -> list[dict[str, Any]]:
        """Deliver what is left, within `store.drain_s`; what became of every destination, for the summary."""
        self.deliveries.close(abort=abort)
        self._all_delivered = not self.deliveries.undelivered
        return [
            {
                "address": status.address,
                "delivered": status.delivered,
                "refused": status.dead,
                "undelivered": status.pending,
                "error": status.last_error if status.pending else None,
            }
            for status in self.deliveries.ended
        ]

    def complain(self) -> None:
        """Raises UndeliveredError if some events reached a destination not, or refused by it."""
        left = self.deliveries.undelivered
        if not left:
            return
        told = "; ".join(
            f"{one.events} events were not delivered to {one.address} ({one.why or 'too slow'})" for one in left
        )
        raise UndeliveredError(
            f"{told}; they are kept in {self.store.path}: `streamdet deliver {self.store.path} --events ADDRESS` sends them"
        )

    def _forget(self) -> None:
        """A temporary store goes when everything in it was delivered."""
        if self._scratch is None:
            return
        if self._all_delivered or not self._begun:
            shutil.rmtree(self._scratch, ignore_errors=True)
        elif not self._told:
            log.warning("events that were not delivered are kept in %s", self._scratch / "events.db")
