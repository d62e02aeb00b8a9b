"""Clips and snapshots of events, and the annotated stream going out."""

from __future__ import annotations

from typing import Literal

from streamdet.config.tree import Count, Node, NonNegative, Positive, Ratio, Size

__all__ = ["BroadcastConfig", "KeepConfig", "Preset", "RecordConfig"]

Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"]


class KeepConfig(Node, frozen=True):
    """How long files stay: the oldest go first, favourites never."""

    days: Positive | None = 30.0  # None: whatever their age
    gb: Positive | None = 10.0  # of all files together
    free_gb: NonNegative = 0.5  # left free on that disk, for what matters more (the events)


class RecordConfig(Node, frozen=True):
    """A clip and a snapshot for events, below `dir`. Seconds are media time."""

    dir: str | None = None  # None: nothing is recorded
    clips: bool = True
    snapshots: bool = True
    on: tuple[Literal["new", "enter", "cross", "dwell"], ...] = ("new",)  # events that begin a clip
    labels: list[str] = []  # only of these; empty: all
    zones: list[str] = []  # only what enters, crosses or dwells there (zones and lines by name); empty: all
    min_score: Ratio = 0.0
    pre_s: NonNegative = 5.0
    post_s: NonNegative = 5.0
    max_s: Positive = 120.0  # a clip is no longer, however long the event
    encode: Literal["auto", "always"] = "auto"  # auto: only if the camera's own packets cannot be used (MJPEG, raw)
    crf: Count = 23  # of clips that are encoded
    memory_mb: Size = 64  # packets kept in memory per camera
    keep: KeepConfig = KeepConfig()


class BroadcastConfig(Node, frozen=True):
    """The annotated stream as H.264, encoded once for all of these and not at all while nobody takes it."""

    push: list[str] = []  # rtsp:// or rtmp:// servers to send it to
    hls: str | None = None  # folder with live.m3u8 for browsers and players
    hls_segment_s: Positive = 2.0
    hls_always: bool = False  # `serve` writes it only while somebody asks for it; true: always, for another web server
    segments: str | None = None  # folder of films, one after another
    segment_s: Positive = 60.0
    keep: KeepConfig = KeepConfig()  # of the films
    preset: Preset = "ultrafast"
    crf: Count = 23
    key_s: Positive = 2.0  # a key frame this often: whoever joins waits as long
    max_height: Size | None = 1080  # larger pictures are scaled down
