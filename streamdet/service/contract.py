"""The bodies of requests and answers: what the API promises, checked on the way in and documented from these very types."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamdet.types import Event

__all__ = [
    "Answer",
    "CameraList",
    "CameraState",
    "ConfigText",
    "CountQuery",
    "Counts",
    "Delivery",
    "EventList",
    "EventQuery",
    "FeedQuery",
    "Health",
    "History",
    "HistoryQuery",
    "LineBody",
    "LiveQuery",
    "NewCamera",
    "PictureQuery",
    "Problem",
    "StationState",
    "Verdict",
    "ZoneBody",
    "Zones",
]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Secret = Annotated[str, msgspec.Meta(max_length=500, pattern=r"^[^$]*$")]  # no ${NAME} from outside
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
Word = Annotated[str, msgspec.Meta(max_length=100)]
Coordinate = Annotated[float, msgspec.Meta(ge=-100_000, le=100_000)]
Place = tuple[Coordinate, Coordinate]
Quantile = Annotated[float, msgspec.Meta(ge=0)]
Dwell = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Anchor = Literal["center", "bottom_center", "top_center"]
State = Literal["opening", "running", "stalled", "lost", "paused", "failed"]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends: a key it may not hold is an error."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller gets."""


class Problem(Answer, frozen=True):
    """What is wrong, the value, and the remedy, in one sentence."""

    error: str


# -------------------------------------------------------------------------------------------------------------- cameras


class CameraState(Answer, frozen=True):
    """How one camera does. `uri` never holds a password; times are seconds; `stages` are [p50, p95] per stage."""

    name: str
    uri: str
    state: State
    reason: str | None = None
    since_s: float = 0.0
    epoch: int = 0
    frame_wh: tuple[int, int] | None = None
    fps_in: float = 0.0
    fps_out: float = 0.0
    frames: int = 0
    dropped: dict[str, int] = {}
    reconnects: int = 0
    last_frame_age_s: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    tiles_run: int = 0
    tiles_of: int = 0
    tiles_put_off: int = 0
    objects: int = 0  # now
    objects_seen: int = 0  # so far
    events: int = 0
    stages: dict[str, tuple[float, float]] = {}
    rules: int = 0  # grows when zones or lines of this camera change
    added: bool = False  # by the API, and not by the configuration file


class CameraList(Answer, frozen=True):
    cameras: list[CameraState]


class NewCamera(Body, frozen=True):
    """A camera to add: an rtsp, rtsps, rtmp, rtmps, http or https address that this server may reach, or ``demo``."""

    name: Name
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    username: Secret | None = None
    password: Secret | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None


class HistoryQuery(Body, frozen=True):
    seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] = 600


class History(Answer, frozen=True):
    """The last seconds in which something was processed, as columns of equal length; `at` is Unix time."""

    at: list[int]
    fps: list[int]
    objects: list[int]
    latency_s: list[float | None]
    tiles_run: list[float]
    tiles_of: list[float]
    events: list[int]


class PictureQuery(Body, frozen=True):
    """`annotated`: boxes, trails and zones drawn in; `width`: at most so many px wide (0: as it is)."""

    annotated: bool = False
    width: Annotated[int, msgspec.Meta(ge=0, le=8192)] = 0


class LiveQuery(PictureQuery, frozen=True):
    """`fps`: at most so many pictures a second (0: all of them)."""

    fps: Annotated[float, msgspec.Meta(ge=0, le=240)] = 0


# ---------------------------------------------------------------------------------------------------------------- rules


class ZoneBody(Body, frozen=True):
    """A polygon in px of the picture, or relative to it if no value is above 1."""

    name: Title
    polygon: Annotated[list[Place], msgspec.Meta(min_length=3, max_length=200)]
    classes: Annotated[list[Word], msgspec.Meta(max_length=100)] = []
    anchor: Anchor = "center"
    inertia: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    dwell_s: Annotated[list[Dwell], msgspec.Meta(max_length=20)] = []


class LineBody(Body, frozen=True):
    """A directed line; who goes to its right-hand side crosses "in"."""

    name: Title
    start: Place
    end: Place
    classes: Annotated[list[Word], msgspec.Meta(max_length=100)] = []
    anchor: Anchor = "center"
    hysteresis_px: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 2.0


class Zones(Body, frozen=True):
    """All zones and lines of one camera."""

    zones: Annotated[list[ZoneBody], msgspec.Meta(max_length=100)] = []
    lines: Annotated[list[LineBody], msgspec.Meta(max_length=100)] = []


# --------------------------------------------------------------------------------------------------------------- events


EventKind = Literal["new", "update", "end", "enter", "leave", "cross", "dwell"]
Words = Annotated[list[Word], msgspec.Meta(max_length=50)]
Kinds = Annotated[list[EventKind], msgspec.Meta(max_length=7)]
Identity = Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[A-Za-z0-9_-]*$")]
Moment = Annotated[str, msgspec.Meta(min_length=10, max_length=40, extra_json_schema={"format": "date-time"})]


class EventQuery(Body, frozen=True):
    """Filters; a name may be given several times. Times are UTC (``2026-11-25T13:30:00Z``).

    `after` or `before`: only events after or before that id, which is how the next page is asked for.
    """

    stream: Words = []
    type: Kinds = []
    label: Words = []
    zone: Words = []
    line: Words = []
    track: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | msgspec.UnsetType = msgspec.UNSET
    since: Moment | None = None
    until: Moment | None = None
    after: Identity | None = None
    before: Identity | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class FeedQuery(Body, frozen=True):
    """Which events to tell; `after`: beginning after that id, and not from now on."""

    stream: Words = []
    type: Kinds = []
    label: Words = []
    after: Identity | None = None


class CountQuery(Body, frozen=True):
    by: Literal["stream", "type", "label", "zone", "line", "time"] = "type"
    stream: Words = []
    type: Kinds = []
    label: Words = []
    zone: Words = []
    since: Moment | None = None
    until: Moment | None = None
    step_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0


class Counts(Answer, frozen=True):
    """By time: the keys are the beginnings of the steps in which something happened (UTC)."""

    counts: dict[str, int]


class EventList(Answer, frozen=True):
    """`next` is the value of `before` (if `after` was given: of `after`) for the page that follows; absent on the last one."""

    events: list[Event]
    next: str | None = None


# --------------------------------------------------------------------------------------------------------------- system


class Delivery(Answer, frozen=True):
    """How far the events of one destination have got. `address` and `last_error` hold no secrets.

    ``dead``: refused by the destination; ``overtaken``: dropped before it took them, as ``store.keep_undelivered`` says.
    """

    name: str
    kind: str
    address: str
    state: str
    pending: int
    delivered: int
    dead: int = 0
    overtaken: int = 0
    failures: int = 0
    oldest_s: float | None = None
    last_error: str | None = None


class StationState(Answer, frozen=True):
    version: str
    started: str
    uptime_s: float
    model: str
    cameras: list[CameraState]
    deliveries: list[Delivery]
    events: int | None = None
    viewers: int = 0


class Health(Answer, frozen=True):
    """`reasons` is empty while all is well; without a token, when one is needed, it stays empty."""

    status: Literal["ok", "stale"]
    reasons: list[str] = []


class ConfigText(Body, frozen=True):
    """A configuration file's text (YAML, of which JSON is a part)."""

    text: Annotated[str, msgspec.Meta(max_length=80_000)]


class Verdict(Answer, frozen=True):
    valid: bool
    error: str | None = None
