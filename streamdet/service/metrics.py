"""What Prometheus reads: text exposition 0.0.4. Names and labels come from the configuration, never from an address."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from streamdet import __version__
from streamdet.service.contract import CameraState, Delivery
from streamdet.sinks.tally import BUCKETS_S, Histogram

if TYPE_CHECKING:
    from streamdet.service.desk import Desk

__all__ = ["exposition"]

_STATES = ("opening", "running", "stalled", "lost", "paused", "failed")
Sample = tuple[dict[str, str], float]


class _Page:
    """Families of samples, each with its help and type, in the order they are added."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, about: str, samples: Iterable[Sample]) -> None:
        self._head(name, kind, about)
        self._lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]

    def histograms(self, name: str, about: str, samples: Iterable[tuple[dict[str, str], Histogram]]) -> None:
        self._head(name, "histogram", about)
        for labels, histogram in samples:
            below = 0
            for bound, count in zip(BUCKETS_S, histogram.counts):
                below += count
                self._lines.append(f"{name}_bucket{_labels({**labels, 'le': _number(bound)})} {below}")
            self._lines.append(f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {histogram.count}")
            self._lines.append(f"{name}_sum{_labels(labels)} {_number(histogram.total)}")
            self._lines.append(f"{name}_count{_labels(labels)} {histogram.count}")

    def text(self) -> str:
        return "\n".join([*self._lines, ""])

    def _head(self, name: str, kind: str, about: str) -> None:
        self._lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def exposition(desk: Desk, states: Sequence[CameraState], deliveries: Sequence[Delivery]) -> str:
    """All metrics as text."""
    page = _Page()
    page.add("streamdet_info", "gauge", "The version that runs.", [({"version": __version__}, 1)])
    page.add(
        "streamdet_uptime_seconds",
        "gauge",
        "Seconds since the service started.",
        [({}, round(time.monotonic() - desk.started_s, 3))],
    )
    page.add(
        "streamdet_processing_silence_seconds",
        "gauge",
        "Seconds since the processing thread gave a sign of life; under 1 while all is well.",
        [({}, round(time.monotonic() - desk.station.beat_s, 3))],
    )
    _cameras(page, states)
    _frames(page, desk, states)
    _events(page, desk, deliveries)
    _media(page, desk)
    page.add("streamdet_viewers", "gauge", "Live views and event streams open now.", [({}, desk.viewers)])
    page.add("streamdet_pictures_drawn_total", "counter", "Pictures annotated for viewers.", [({}, desk.hub.drawn)])
    page.add("streamdet_pictures_encoded_total", "counter", "JPEGs made for viewers.", [({}, desk.hub.encoded)])
    return page.text()


def _media(page: _Page, desk: Desk) -> None:
    """Clips, films, and where the annotated stream goes."""
    media = desk.station.media()
    kept = {kind: media[kind] for kind in ("clips", "films") if media[kind]}
    for key, kind, about in (
        ("files", "gauge", "Files kept."),
        ("bytes", "gauge", "Bytes of the files kept."),
        ("dropped", "counter", "Files not made because the disk was full or failed."),
        ("removed", "counter", "Files removed for their age, their size or the disk's sake."),
    ):
        suffix = "_total" if kind == "counter" else ""
        samples = [({"kind": name}, float(counts[key])) for name, counts in kept.items()]
        page.add(f"streamdet_recording_{key}{suffix}", kind, about, samples)
    outlets = [
        (name, str(at), one) for name, all_of_it in media["broadcast"].items() for at, one in enumerate(all_of_it)
    ]
    page.add(
        "streamdet_outlet_running",
        "gauge",
        "1 while the annotated stream is being taken there.",
        [({"stream": name, "outlet": at}, float(one["state"] == "running")) for name, at, one in outlets],
    )
    page.add(
        "streamdet_outlet_dropped_total",
        "counter",
        "Pictures of the annotated stream not sent because the taker was too slow.",
        [({"stream": name, "outlet": at}, float(one["dropped"])) for name, at, one in outlets],
    )


def _cameras(page: _Page, states: Sequence[CameraState]) -> None:
    page.add(
        "streamdet_camera_state",
        "gauge",
        "1 for the state the camera is in.",
        [({"stream": s.name, "state": name}, float(s.state == name)) for s in states for name in _STATES],
    )
    counters = (
        ("frames", "frames_total", "Frames processed."),
        ("objects_seen", "objects_seen_total", "Objects seen so far."),
        ("tiles_put_off", "tiles_put_off_total", "Tiles left for a later frame because time was short."),
        ("reconnects", "reconnects_total", "Times the camera was opened again after a loss."),
    )
    for field, name, about in counters:
        page.add(f"streamdet_{name}", "counter", about, [({"stream": s.name}, getattr(s, field)) for s in states])
    page.add(
        "streamdet_dropped_frames_total",
        "counter",
        "Frames not processed, by reason.",
        [({"stream": s.name, "reason": why}, count) for s in states for why, count in sorted(s.dropped.items())],
    )
    gauges = (
        ("fps_in", "source_fps", "Frames a second that arrive."),
        ("fps_out", "processed_fps", "Frames a second that are processed."),
        ("objects", "objects", "Objects in the newest frame."),
        ("last_frame_age_s", "last_frame_age_seconds", "Age of the newest frame."),
    )
    for field, name, about in gauges:
        known = [({"stream": s.name}, value) for s in states if (value := getattr(s, field)) is not None]
        page.add(f"streamdet_{name}", "gauge", about, known)


def _frames(page: _Page, desk: Desk, states: Sequence[CameraState]) -> None:
    totals = {state.name: desk.hub.tally(state.name).totals() for state in states}
    page.histograms(
        "streamdet_stage_seconds",
        "Time a frame spent in each stage.",
        [
            ({"stream": name, "stage": stage}, histogram)
            for name, total in totals.items()
            for stage, histogram in sorted(total.stages.items())
        ],
    )
    page.histograms(
        "streamdet_latency_seconds",
        "From the decoder to the viewers, of live frames.",
        [({"stream": name}, total.latency) for name, total in totals.items()],
    )
    run = [
        ({"stream": name, "why": why}, count) for name, total in totals.items() for why, count in total.tiles.items()
    ]
    page.add("streamdet_tiles_run_total", "counter", "Tiles shown to the network, by why.", run)
    skipped = [({"stream": name}, total.tiles_of - sum(total.tiles.values())) for name, total in totals.items()]
    page.add("streamdet_tiles_skipped_total", "counter", "Tiles in which nothing had to be looked for.", skipped)
    events = [
        ({"stream": name, "type": kind}, count)
        for name, total in totals.items()
        for kind, count in sorted(total.events.items())
    ]
    page.add("streamdet_events_total", "counter", "Events, by type.", events)


def _events(page: _Page, desk: Desk, deliveries: Sequence[Delivery]) -> None:
    store = desk.station.store
    if store is not None:
        status = store.status()
        page.add("streamdet_store_events", "gauge", "Events in the store.", [({}, status.events)])
        page.add("streamdet_store_bytes", "gauge", "Bytes the store takes on disk.", [({}, status.disk_bytes)])
        page.add("streamdet_store_queue", "gauge", "Events not on disk yet.", [({}, status.in_memory)])
        page.add(
            "streamdet_store_writable", "gauge", "0 while events wait in memory.", [({}, float(status.state == "ok"))]
        )
        page.add("streamdet_store_lost_total", "counter", "Events that never reached the disk.", [({}, status.lost)])
    pending = [({"destination": one.name}, one.pending) for one in deliveries]
    page.add("streamdet_delivery_queue", "gauge", "Events a destination has not taken yet.", pending)
    counters = (
        ("delivered", "delivered_total", "Events a destination has taken."),
        ("dead", "delivery_refused_total", "Events a destination refused."),
        ("overtaken", "delivery_overtaken_total", "Events dropped before a destination took them."),
        ("failures", "delivery_failures_total", "Attempts that failed and were made again."),
    )
    for field, name, about in counters:
        page.add(
            f"streamdet_{name}", "counter", about, [({"destination": d.name}, getattr(d, field)) for d in deliveries]
        )
    waiting = [({"destination": one.name}, one.oldest_s) for one in deliveries if one.oldest_s is not None]
    page.add("streamdet_delivery_oldest_seconds", "gauge", "Age of the oldest event not delivered.", waiting)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
