"""Sources that tests encode themselves, events made by hand, and a recorder that runs beside a source as it does in a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from streamdet.config import KeepConfig, RecordConfig, SourceConfig
from streamdet.recording.archive import Archive
from streamdet.recording.recorder import Recorder
from streamdet.sources.video import VideoSource
from streamdet.types import Event, Frame

NO_LIMITS = KeepConfig(days=None, gb=None, free_gb=0)
Shown = list[tuple[float, NDArray[np.uint8]]]


def event_of(frame: Frame, kind: str = "new", *, track: int = 1, label: str = "ball", **more: Any) -> Event:
    return Event(
        type=kind, stream=frame.stream, frame=frame.index, pts_s=frame.pts_s, epoch=frame.epoch, pts=frame.pts,
        time_base=str(frame.time_base), utc=frame.utc, track=track, label=label, score=0.9, bbox=(1.0, 2.0, 9.0, 8.0), **more,
    )  # type: ignore[arg-type]  # fmt: skip


def shown(path: Path) -> Shown:
    """Every picture of a film with the second it is shown at."""
    with av.open(str(path)) as container:
        return [(float(f.pts * f.time_base), f.to_ndarray()) for f in container.decode(video=0)]


def record(path: Path, folder: Path, config: RecordConfig, when: dict[int, list[tuple[str, int]]]) -> list[Event]:
    """Read a film with a recorder beside it; `when`: events (type, track) by frame index. Returns them as told."""
    told: list[Event] = []
    with Archive(folder, NO_LIMITS) as archive:
        recorder = Recorder(archive, config, stream="court")
        recorder.start()
        with VideoSource(str(path), stream="court", config=SourceConfig(), tap=recorder) as source:
            for frame in source:
                events = tuple(event_of(frame, kind, track=track) for kind, track in when.get(frame.index, []))
                told += recorder.record(events)
        recorder.stop()
    return told
