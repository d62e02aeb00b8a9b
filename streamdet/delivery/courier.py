"""One thread that carries events from the log to one destination, for as long as it takes."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque

from streamdet.config import OnlyConfig
from streamdet.delivery.outcome import DeliveryStatus, Destination, Refused, State, Unreachable
from streamdet.errors import redact
from streamdet.protocols import EventLog
from streamdet.types import StoredEvent

__all__ = ["Courier", "pause_after"]

log = logging.getLogger(__name__)

ATTEND_S = 0.25
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = {"webhook": 30.0}  # somebody else's server
LONGEST_PAUSE_OWN_S = 5.0  # a broker or database of one's own
REFUSED_PAUSE_S = 10.0
ACKNOWLEDGED_IN_S = 20.0  # no sign of life for so long with events under way: the connection is given up
REMIND_S = 60.0


def pause_after(failures: int, longest_s: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter."""
    return min(longest_s, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16)) * random.uniform(0.6, 1.0)


class Courier:
    """Reads the log from its own cursor, hands events over in order, and moves the cursor when they are settled.

    Trouble of any kind is waited out: the cursor stays, what was not settled is sent again. ``stop`` gives it until
    `drain_s` to catch up.
    """

    def __init__(
        self,
        name: str,
        destination: Destination,
        events: EventLog,
        *,
        kind: str,
        only: OnlyConfig,
        from_start: bool = False,
    ) -> None:
        self.name = name
        self._destination = destination
        self._witness = getattr(destination, "witness", None)  # see Destination
        self._log = events
        self._kind, self._only = kind, only
        if from_start:
            events.rewind(name)
        self._cursor = events.cursor(name)
        self._sent = self._cursor
        self._under_way: deque[int] = deque()
        self._progress_s = time.monotonic()
        self._state: State = "connecting"
        self._delivered = self._dead_before = 0
        self._failures = self._in_a_row = 0
        self._last_error: str | None = None
        self._told: tuple[float, str] = (-REMIND_S, "")
        self._wake = threading.Event()
        self._until_s: float | None = None  # set by stop: the last moment
        self._thread = threading.Thread(target=self._run, name=f"delivery-{name}", daemon=True)

    def start(self) -> None:
        self._stop_listening = self._log.listen(self._wake.set)
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Ask it to finish within `drain_s`; returns at once."""
        self._until_s = time.monotonic() + drain_s
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def status(self) -> DeliveryStatus:
        pending = max(0, self._log.appended_seq - self._cursor)
        try:
            oldest = self._log.after(self._cursor, 1) if pending else []
        except Exception:  # the disk's trouble is told by the store
            oldest = []
        return DeliveryStatus(
            name=self.name,
            kind=self._kind,
            address=self._destination.address,
            state=self._state,
            pending=pending,
            oldest_s=round(max(0.0, time.time() - oldest[0].utc_ms / 1000), 3) if oldest else None,
            delivered=self._delivered,
            dead=self._destination.dead,
            overtaken=self._log.overtaken(self.name),
            failures=self._failures,
            last_error=self._last_error,
        )

    # ------------------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while not self._time_is_up():
                try:
                    self._destination.open(self._wake.set)
                    self._set_connected()
                    self._serve()
                    break
                except Unreachable as error:
                    pause_s = self._failed(error)
                except Exception as error:  # a fault of our own must not stop the events for ever either
                    log.exception("delivery to %s: %s", self.name, redact(str(error)))
                    pause_s = self._failed(Unreachable(f"{type(error).__name__}: {error}"))
                finally:
                    self._settle()
                    self._close()
                self._pause(pause_s)
        finally:
            self._state = "stopped"
            self._stop_listening()

    def _serve(self) -> None:
        """Hand over what comes, until stopped and caught up."""
        self._sent, self._progress_s = self._cursor, time.monotonic()
        self._under_way.clear()
        while not self._time_is_up():
            self._wake.clear()
            sent_some = self._send_more()
            caught_up = self._sent >= self._log.last_seq
            self._destination.attend(caught_up=caught_up)
            self._settle()
            if self._until_s is not None and caught_up and not self._under_way:
                break
            if not self._under_way:
                self._progress_s = time.monotonic()
            elif time.monotonic() - self._progress_s > ACKNOWLEDGED_IN_S:
                raise Unreachable(f"{len(self._under_way)} events were not acknowledged for {ACKNOWLEDGED_IN_S:.0f} s")
            if not sent_some or len(self._under_way) >= self._destination.window:
                self._wake.wait(ATTEND_S)

    def _send_more(self) -> bool:
        room = self._destination.window - len(self._under_way)
        self._sent = max(self._sent, self._log.cursor(self.name))  # retention may have overtaken us
        events = self._log.after(self._sent, room) if room > 0 and self._sent < self._log.last_seq else []
        if not events:
            return False
        if self._witness is not None:
            self._witness(events)
        wanted = [event for event in events if self._wants(event)]
        self._under_way.extend(event.seq for event in wanted)
        self._sent = events[-1].seq
        if wanted:
            self._destination.send(wanted)
        return True

    def _wants(self, event: StoredEvent) -> bool:
        only = self._only
        return (
            (not only.streams or event.stream in only.streams)
            and (not only.types or event.type in only.types)
            and (not only.labels or event.label in only.labels)
            and (not only.zones or event.zone in only.zones)
        )

    def _settle(self) -> None:
        """Move the cursor past what is settled."""
        settled = self._destination.settled
        done = 0
        while self._under_way and self._under_way[0] <= settled:
            self._under_way.popleft()
            done += 1
        if done:
            dead = self._destination.dead
            self._delivered += done - (dead - self._dead_before)
            self._dead_before = dead
            self._progress_s = time.monotonic()
            if self._in_a_row:
                log.warning("delivery to %s works again", self.name)
                self._in_a_row, self._told = 0, (-REMIND_S, "")
        cursor = self._under_way[0] - 1 if self._under_way else self._sent
        if cursor > self._cursor:
            self._cursor = cursor
            self._log.advance(self.name, cursor)

    # ---------------------------------------------------------------------------------------------------------- trouble

    def _set_connected(self) -> None:
        self._state = "connected"
        self._last_error = None

    def _failed(self, error: Unreachable) -> float:
        self._failures += 1
        self._in_a_row += 1
        self._state = "refused" if isinstance(error, Refused) else "waiting"
        self._last_error = redact(str(error))
        now_s = time.monotonic()
        if self._told[1] != self._last_error or now_s - self._told[0] >= REMIND_S:
            waiting = max(0, self._log.appended_seq - self._cursor)
            log.warning("delivery to %s: %s; %d events wait, trying again", self.name, self._last_error, waiting)
            self._told = (now_s, self._last_error)
        if error.pause_s is not None:
            return error.pause_s
        if isinstance(error, Refused):
            return REFUSED_PAUSE_S
        return pause_after(self._in_a_row, LONGEST_PAUSE_S.get(self._kind, LONGEST_PAUSE_OWN_S))

    def _pause(self, pause_s: float) -> None:
        """Wait, but no longer than we have; asked to stop, try at least every second."""
        over_s = time.monotonic() + pause_s
        while (now_s := time.monotonic()) < over_s and not self._time_is_up():
            if self._until_s is not None:
                over_s = min(over_s, now_s + 1.0, self._until_s)
            self._wake.wait(max(0.01, min(ATTEND_S, over_s - now_s)))
            self._wake.clear()

    def _time_is_up(self) -> bool:
        return self._until_s is not None and time.monotonic() >= self._until_s

    def _close(self) -> None:
        try:
            self._destination.close()
        except Exception as error:  # closing what is broken may fail as it likes
            log.debug("delivery to %s: closing: %s", self.name, redact(str(error)))
