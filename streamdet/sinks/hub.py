"""The latest picture of every stream and the flow of events, for viewers who come and go.

A picture is drawn and encoded when the first viewer asks for it and then shared: once per frame however many watch, never if
nobody does. Nothing here waits for a viewer: the newest Result takes the place of the one before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import cv2

from streamdet.records import encode, frame_record
from streamdet.sinks.tally import Tally
from streamdet.types import U8, Event, Result

__all__ = ["Hub", "HubSink", "Shot", "Subscription"]

_BACKLOG = 1000  # events that wait for a slow subscriber; the oldest go first, and are counted


class Shot:
    """One Result on offer. ``number`` grows by one with every frame of the stream, over reconnects too."""

    __slots__ = ("_hub", "_jpegs", "_lock", "_record", "arrived_s", "number", "result")

    def __init__(self, hub: Hub, number: int, result: Result) -> None:
        self.number = number
        self.result = result
        self.arrived_s = time.monotonic()
        self._hub = hub
        self._lock = threading.Lock()
        self._jpegs: dict[tuple[bool, int], bytes] = {}
        self._record = b""

    @property
    def age_s(self) -> float:
        """Seconds since the frame left the decoder."""
        return max(0.0, time.monotonic() - self.result.frame.captured_s)

    def jpeg(self, *, annotated: bool = False, width: int = 0) -> bytes:
        """The picture as JPEG; `annotated`: with boxes, trails and zones; `width`: at most so many px wide (0: as it is)."""
        full_wh = self.result.frame.wh
        width = 0 if width >= full_wh[0] else max(0, width)
        with self._lock:
            if (annotated, width) not in self._jpegs:
                picture = self._hub.draw(self.result) if annotated else self.result.frame.picture.bgr
                self._jpegs[annotated, width] = self._hub.encode(_shrunk(picture, width))
            return self._jpegs[annotated, width]

    def record(self) -> bytes:
        """The frame's record (:class:`streamdet.records.FrameRecord`) as one JSON object."""
        with self._lock:
            if not self._record:
                self._record = encode(frame_record(self.result)).rstrip()
            return self._record


class _Channel:
    """One stream's place in the hub."""

    def __init__(self) -> None:
        self.arrived = threading.Condition()
        self.number = 0
        self.shot: Shot | None = None
        self.tally = Tally()


class Hub:
    """One per process. All methods may be called from any thread; none of them waits unless it says so.

    ``drawn`` and ``encoded`` count pictures made, for those who want to know that nothing is done for nobody.
    """

    def __init__(self, *, quality: int = 80) -> None:
        self.drawn = 0
        self.encoded = 0
        self._quality = quality
        self._channels: dict[str, _Channel] = {}
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str], None]] = []
        self._subscriptions: list[Subscription] = []

    # ------------------------------------------------------------------------------------------------------- pictures

    def sink(self, stream: str) -> HubSink:
        """The sink that puts a stream's Results on offer here."""
        return HubSink(self, stream)

    @property
    def streams(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._channels)

    def shot(self, stream: str) -> Shot | None:
        """The newest frame of `stream`; None if there was none yet."""
        channel = self._channels.get(stream)
        return channel.shot if channel else None

    def latest(self, stream: str) -> Result | None:
        """The newest Result of `stream`; None if there was none yet."""
        shot = self.shot(stream)
        return shot.result if shot else None

    def wait(self, stream: str, after: int = 0, timeout_s: float = 1.0) -> Shot | None:
        """The newest frame once its number is above `after`; None if none came within `timeout_s`."""
        channel = self._channel(stream)
        with channel.arrived:
            channel.arrived.wait_for(lambda: channel.number > after, timeout_s)
            return channel.shot if channel.number > after else None

    def tally(self, stream: str) -> Tally:
        """What `stream` did so far, in numbers."""
        return self._channel(stream).tally

    def forget(self, stream: str) -> None:
        """The stream is gone for good: let go of its picture and counts."""
        with self._lock:
            self._channels.pop(stream, None)

    @contextlib.contextmanager
    def listen(self, heard: Callable[[str], None]) -> Iterator[None]:
        """Call `heard(stream)` at every new frame, on the sink's thread: it must return at once and not raise."""
        with self._lock:
            self._listeners = [*self._listeners, heard]
        try:
            yield
        finally:
            with self._lock:
                self._listeners = [known for known in self._listeners if known is not heard]

    # --------------------------------------------------------------------------------------------------------- events

    def events(self, *, heard: Callable[[], None] | None = None) -> Subscription:
        """A view of the events from now on. Close it, or use it in a ``with``. `heard` as in :meth:`listen`."""
        subscription = Subscription(self, heard)
        with self._lock:
            self._subscriptions = [*self._subscriptions, subscription]
        return subscription

    def leave(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions = [known for known in self._subscriptions if known is not subscription]

    # -------------------------------------------------------------------------------------- for sinks and their shots

    def put(self, result: Result) -> None:
        stream = result.frame.stream
        channel = self._channel(stream)
        channel.tally.add(result)
        with channel.arrived:
            channel.number += 1
            channel.shot = Shot(self, channel.number, result)
            channel.arrived.notify_all()
        for heard in self._listeners:
            heard(stream)
        self._tell(result.events)

    def put_events(self, stream: str, events: tuple[Event, ...]) -> None:
        self._channel(stream).tally.add_events(events)
        self._tell(events)

    def draw(self, result: Result) -> U8:
        if not result.painted:
            self.drawn += 1
        return result.annotated()

    def encode(self, picture: U8) -> bytes:
        self.encoded += 1
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not done:
            raise ValueError(f"a picture of {picture.shape} px cannot be a JPEG")
        return data.tobytes()

    def _tell(self, events: tuple[Event, ...]) -> None:
        for subscription in self._subscriptions if events else ():
            subscription.put(events)

    def _channel(self, stream: str) -> _Channel:
        with self._lock:
            return self._channels.setdefault(stream, _Channel())


class HubSink:
    """Puts the Results of one stream into the hub. Keeps nothing back and makes nothing: that is for viewers to ask."""

    lossy = True

    def __init__(self, hub: Hub, stream: str) -> None:
        self._hub = hub
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Nothing to close: the last picture stays on offer."""

    def write(self, result: Result) -> None:
        self._hub.put(result)

    def tell(self, events: tuple[Event, ...]) -> None:
        """Events between two frames: the stream was lost, and what was in it has ended."""
        self.finish(events)

    def finish(self, events: tuple[Event, ...]) -> None:
        self._hub.put_events(self._stream, events)


class Subscription:
    """Events from now on, at most :data:`_BACKLOG` waiting; ``missed`` counts those that a slow reader lost."""

    def __init__(self, hub: Hub, heard: Callable[[], None] | None = None) -> None:
        self.missed = 0
        self._hub = hub
        self._heard = heard
        self._waiting: deque[Event] = deque()
        self._arrived = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def close(self) -> None:
        self._hub.leave(self)

    def take(self, timeout_s: float = 0.0) -> list[Event]:
        """What has come, oldest first, after waiting up to `timeout_s` for the first."""
        with self._arrived:
            if timeout_s > 0:
                self._arrived.wait_for(lambda: bool(self._waiting), timeout_s)
            taken = list(self._waiting)
            self._waiting.clear()
            return taken

    def put(self, events: tuple[Event, ...]) -> None:
        with self._arrived:
            self._waiting.extend(events)
            while len(self._waiting) > _BACKLOG:
                self._waiting.popleft()
                self.missed += 1
            self._arrived.notify_all()
        if self._heard is not None:
            self._heard()


def _shrunk(picture: U8, width: int) -> U8:
    if not width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
