"""What a destination is, and what becomes of delivering to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from streamdet.types import StoredEvent

__all__ = ["DeliveryStatus", "Destination", "Refused", "State", "Unreachable"]

State = Literal["connecting", "connected", "waiting", "refused", "stopped"]


class Unreachable(Exception):
    """It did not work now and will be tried again, after `pause_s` if that is given."""

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class Refused(Unreachable):
    """The other side says no to us, not to an event (wrong password, unknown address): somebody must mend that. Tried slowly."""


class Destination(Protocol):
    """Where events go. Used by one thread; ``open`` again after a failure.

    ``send`` takes events in order and may return before they are acknowledged; ``settled`` is the seq up to which all that was
    handed over is done with: acknowledged, or refused for good (counted in `dead`). After an exception everything past it
    is handed over again. ``attend`` is called often (at least twice a second): look for acknowledgements and failures, do what
    is due; `caught_up`: there is nothing more to send. No call takes longer than its time-outs. ``address`` holds no secret.
    One that has a method ``witness`` is shown all events first, also those that its `only` keeps away from ``send``.
    """

    window: int  # events handed over and not settled, at most

    @property
    def address(self) -> str: ...
    @property
    def settled(self) -> int: ...
    @property
    def dead(self) -> int: ...
    def open(self, wake: Callable[[], None]) -> None: ...
    def send(self, events: Sequence[StoredEvent]) -> None: ...
    def attend(self, *, caught_up: bool) -> None: ...
    def close(self) -> None: ...


class DeliveryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one destination is doing. `pending`: events it has not got yet, the oldest `oldest_s` old. Counts since the start."""

    name: str
    kind: str
    address: str
    state: State
    pending: int
    oldest_s: float | None
    delivered: int
    dead: int
    overtaken: int
    failures: int
    last_error: str | None
