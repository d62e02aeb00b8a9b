"""The verbs: what each part of the line promises. Structural types only; nothing here runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from streamdet.inputspec import InputSpec
from streamdet.types import (
    F32,
    I16,
    U8,
    Bool,
    Detections,
    Event,
    Frame,
    Motion,
    MotionPlanes,
    Picture,
    Result,
    SourceInfo,
    StoredEvent,
    TileBatch,
    TilePlan,
    Tracks,
)

__all__ = [
    "Detector",
    "DeviceScene",
    "EventLog",
    "Glimpse",
    "Memory",
    "Merger",
    "MotionModel",
    "Packer",
    "Rules",
    "Scheduler",
    "Seen",
    "Sink",
    "Source",
    "Tracker",
]


class _Managed(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Source(_Managed, Protocol):
    """Opens on ``__enter__`` (SourceOpenError), then iterates Frames.

    The end of the material ends the iterator; loss of a live stream raises SourceLostError. Every blocking call has a
    time-out. ``close()`` may be called from another thread and makes the iterator end soon. ``counts`` grows while running
    ("decoded", "damaged", "skipped"); `info` is valid once entered.
    """

    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def info(self) -> SourceInfo: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


class Glimpse(NamedTuple):
    """What two frames alone tell, whatever was before: ahead of the later one's turn in a motion model.

    ``luma`` of the frame, rows together; of the one ``before`` it (None: there is none of this size); ``change``: the largest
    difference of the two by block of 16 px; a coarse ``sample``, as `streamdet.motion.light.sample` takes it.
    """

    luma: U8
    before: U8 | None
    change: U8 | None
    sample: I16


class MotionModel(Protocol):
    """Stateful per stream; called once per frame, in order. A new epoch or frame size starts afresh.

    ``glimpse`` may be called ahead, on another thread, with the same frames; what it gives is only a shortcut.
    """

    def __call__(self, frame: Frame, glimpse: Glimpse | None = None) -> Motion: ...
    def glimpse(self, frame: Frame) -> Glimpse | None: ...


class Seen(NamedTuple):
    """What a GPU tells of a frame: by block of 16 px the largest differences to the preceding frame and to the background, and
    coarse samples of both, as `streamdet.motion.light.sample` takes them."""

    change: U8
    away: U8
    luma: I16
    background: I16


class DeviceScene(Protocol):
    """The whole planes of one stream on a GPU, for a motion model that has only small things come to the host.

    ``begin`` starts a scene of which `picture` is the background too; ``see`` brings the next picture. What is seen becomes the
    preceding frame by ``remember``; until then another may be seen instead.
    """

    def begin(self, picture: Picture, grid: tuple[int, int]) -> I16:
        """A coarse sample of it: every ``grid[1]``-th px from ``grid[0]`` on."""
        ...

    def see(
        self, picture: Picture, *, levels: U8, frozen: Bool, patches: Iterable[tuple[int, int, U8]], limit: U8
    ) -> Seen:
        """First the background learns from the preceding frame: it is healed where `patches` (x, y, mask) say so and moves by
        `levels` (stripes of 64 rows) except in `frozen` blocks. Blocks further than `limit` from it are active."""
        ...

    def relight(self, table: U8, *, earlier: bool) -> Seen:
        """The background, with `earlier` also the frames before, through a brightness table; then what is seen anew."""
        ...

    def active(self) -> tuple[U8, U8, U8]:
        """This frame, the preceding one and the background (H,W) u8, right in active blocks and those beside them, else equal.
        Valid until the next call."""
        ...

    def whole(self) -> tuple[U8, U8]:
        """This frame and the background, every px."""
        ...

    def earlier(self) -> tuple[U8, U8 | None]:
        """The preceding frame and the one before that (None: there is none), every px."""
        ...

    def planes(self) -> MotionPlanes: ...
    def remember(self) -> None: ...
    def resume(self, picture: Picture, before_previous: U8, background: U8) -> None:
        """Go on after some frames that were not seen here: `picture` is the preceding frame."""
        ...


class Scheduler(Protocol):
    """Chooses where to look in this frame. `tracks` are those of the preceding frame.

    ``wanted`` is asked once per frame; ``most_urgent`` if not all of it can be had; ``ran`` is told what is run.
    """

    def wanted(self, frame: Frame, motion: Motion, tracks: Tracks) -> TilePlan: ...
    def most_urgent(self, tiles: TilePlan, most: int) -> TilePlan: ...
    def ran(self, frame: Frame, motion: Motion, tiles: TilePlan) -> None: ...


class Memory(Protocol):
    """What was found in earlier frames where nothing has moved since: it stands, though nobody looked there again.

    ``recall`` is called once for every frame that was looked at, after ``Scheduler.ran``: `found` and, behind it, what stands,
    with ``tile`` numbers beyond the rows of `tiles`. ``stands`` says of which cells of 16 px (rows, columns) the earlier answer
    still holds (None: of none).
    """

    def recall(self, frame: Frame, tiles: TilePlan, found: Detections) -> Detections: ...
    def stands(self) -> Bool | None: ...


class Packer(Protocol):
    """Cuts, converts, scales, normalises and packs the chosen tiles in one step. Stateful (frame history).

    ``collages``: whether several tiles of a plan may share an input.
    """

    @property
    def collages(self) -> bool: ...
    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch: ...


class Detector(_Managed, Protocol):
    """Turns a batch into Detections in full-frame pixels, clipped to the frame. Nothing heavy before ``__enter__``.

    ``input``: what its network wants to be fed (None: no network, it reads frame and motion). ``threshold``: the score from
    which a detection counts, by label (L,) f32 in ``thresholds`` and the lowest of them in ``threshold``. Rows down to
    `WEAK_SHARE` of it (`FAINT_SHARE` of networks that see motion) are given too: the tracker keeps known tracks alive with them,
    a look back finds with them where a mover came from, nobody else sees them.
    ``local``: the network may be given larger inputs than its own (multiples of its stride): see `streamdet.detectors.local`;
    ``many_sizes``: and of ever other sizes, without a cost for each (OpenVINO compiles it for each size, and keeps that on disk).
    ``counts`` and ``warnings``: what went wrong while running, for the summary.
    """

    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def warnings(self) -> list[str]: ...
    @property
    def input(self) -> InputSpec | None: ...
    @property
    def local(self) -> bool: ...
    @property
    def many_sizes(self) -> bool: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def threshold(self) -> float: ...
    @property
    def thresholds(self) -> F32: ...
    def describe(self) -> str: ...
    def __call__(self, batch: TileBatch) -> Detections: ...
    def together(self, batches: Sequence[TileBatch]) -> list[Detections]:
        """The same for batches of several streams, run in one go: one Detections each, as if called one by one."""
        ...


class Merger(Protocol):
    """Stateless: duplicates across tiles become one row. The order of the input never changes the output.

    ``beside`` gives those rows of `weak` that are no copy of a row of `merged`, or of a better weak one.
    """

    def __call__(self, found: Detections) -> Detections: ...
    def beside(self, merged: Detections, weak: Detections) -> Detections: ...


class Tracker(Protocol):
    """Instance state only, time in seconds of media.

    `looked`: the tiles that were run in this frame (None: all of the picture, or a held repeat). A track that lies in none of
    them was not missed, merely not looked at, unless its place `stands` (see :class:`Memory`) as it was looked at earlier.
    """

    def update(
        self,
        frame: Frame,
        motion: Motion,
        merged: Detections,
        looked: TilePlan | None = None,
        stands: Bool | None = None,
    ) -> Tracks: ...


class Lookback(Protocol):
    """Of a recording, tracks are told a few frames later, when what followed is known; of a live stream at once.

    ``push`` gives back the frames whose time has come, in order, with their final tracks; ``flush`` all that are held.
    """

    def push(
        self, carried: Result, pts_s: float, tracks: Tracks, found: Detections, /, *, repeat: bool
    ) -> list[tuple[Result, Tracks]]: ...
    def flush(self) -> list[tuple[Result, Tracks]]: ...


class Rules(Protocol):
    """Tracks -> events. ``finish`` gives the "end" events of tracks still alive when the stream ends."""

    def __call__(self, frame: Frame, tracks: Tracks) -> tuple[Event, ...]: ...
    def finish(self) -> tuple[Event, ...]: ...
    def counts(self) -> dict[str, object]: ...


class Sink(_Managed, Protocol):
    """Receives every Result of one stream on its own thread.

    ``lossy``: Results may be dropped (and counted) when it is slow. A sink with a true ``only_events`` is not woken for Results
    without events.
    """

    lossy: bool

    def write(self, result: Result) -> None: ...
    def finish(self, events: tuple[Event, ...]) -> None:
        """Called once after the last Result with the events that closed the stream."""


class EventLog(Protocol):
    """Events of all streams in the order they happened, and how far each destination has got with them. Thread-safe.

    ``last_seq`` is the newest that can be read, ``appended_seq`` the newest there is (on its way to the disk). ``cursor`` is
    where a destination goes on (a new one: with the next event), after ``rewind`` the oldest; ``advance`` says that everything
    up to `seq` arrived; ``retire`` that it is not served for now; ``bury`` keeps an event it refused; ``overtaken`` counts what
    was dropped before it took it. ``listen`` calls `wake` from another thread whenever there may be more to read, until what it
    returned is called.
    """

    @property
    def last_seq(self) -> int: ...
    @property
    def appended_seq(self) -> int: ...
    def after(self, seq: int, limit: int) -> list[StoredEvent]: ...
    def listen(self, wake: Callable[[], None]) -> Callable[[], None]: ...
    def cursor(self, name: str) -> int: ...
    def rewind(self, name: str) -> None: ...
    def advance(self, name: str, seq: int) -> None: ...
    def retire(self, name: str) -> None: ...
    def bury(self, name: str, event: StoredEvent, reason: str) -> None: ...
    def overtaken(self, name: str) -> int: ...
    def kinds(self) -> list[tuple[str, str, str | None]]: ...
