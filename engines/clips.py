"""The shared clips as a test: which part of each is scored, against what, and how near is near."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engines.footage import background_clips

__all__ = ["GROUPS", "Clip", "clips_of", "shake_offsets", "shaken"]

GROUPS = ("badminton", "tennis", "air_visible", "air_thermal", "pedestrians", "cars", "people", "shake")
_SHAKEN = ("00001", "00029")
_SHAKE_PX, _SHAKE_STAYS = 3.0, 0.5
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clip:
    """What is run from its start, and scored from frame `first` on.

    ``labels`` None: nothing is to be found there, every shown object is false.
    """

    group: str
    path: Path
    labels: Path | None
    within_px: float = 0.0
    within_box: bool = False
    first: int = 0


def clips_of(root: Path, work: Path, groups: list[str]) -> list[Clip]:
    """All clips of the named groups (empty: every group). `work` keeps the shaken copies."""
    clips = root / "clips"
    tennis = clips / "tennis_amateur"
    rallies = sorted((clips / "badminton").glob("*.mp4"))
    found = [Clip("badminton", path, path.with_suffix(".csv"), 5) for path in rallies]
    found.append(Clip("tennis", tennis / "clip.mp4", tennis / "labels.csv", 10))
    for path in sorted((clips / "air").glob("*.mp4")):
        group = "air_thermal" if path.stem.startswith("IR") else "air_visible"
        found.append(Clip(group, path, path.with_suffix(".csv"), 12, within_box=True))
    quiet = (footage for footage in background_clips(root) if footage.truth is None)
    found += [Clip(one.path.parent.name, one.path, None, first=one.frames) for one in quiet]  # negatives came before
    if not groups or "shake" in groups:
        found += [shaken(path, work) for path in rallies if path.stem in _SHAKEN]
    return [clip for clip in found if not groups or clip.group in groups]


def shaken(path: Path, work: Path) -> Clip:
    """The clip with a hand's shake added to pictures and labels; made once."""
    target = work / f"{path.stem}_shaken.mp4"
    labels = target.with_suffix(".csv")
    if not labels.is_file():
        work.mkdir(parents=True, exist_ok=True)
        offsets = shake_offsets(4000)
        _shake_film(path, target, offsets)
        _shake_labels(path.with_suffix(".csv"), labels, offsets)  # last: a copy that has labels is complete
    return Clip("shake", target, labels, 10)


def shake_offsets(count: int) -> F64:
    """(n,2) px: 3 px of standard deviation per axis, half of it carried over to the next frame. Seeded."""
    rng = np.random.default_rng(7)
    offsets = np.zeros((count, 2))
    fresh = _SHAKE_PX * np.sqrt(1 - _SHAKE_STAYS**2)
    for k in range(1, count):
        offsets[k] = _SHAKE_STAYS * offsets[k - 1] + rng.normal(0, fresh, 2)
    return offsets


def _shake_film(path: Path, target: Path, offsets: F64) -> None:
    with av.open(str(path)) as source, av.open(str(target), "w") as sink:
        video = source.streams.video[0]
        rate = video.average_rate or Fraction(30)
        stream = sink.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for index, (frame, (dx, dy)) in enumerate(zip(source.decode(video), offsets)):
            picture = frame.to_ndarray(format="bgr24")
            shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
            moved = cv2.warpAffine(picture, shift, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
            out = av.VideoFrame.from_ndarray(moved.astype(np.uint8), format="bgr24")
            out.pts, out.time_base = index, 1 / rate
            sink.mux(stream.encode(out))
        sink.mux(stream.encode(None))


def _shake_labels(path: Path, target: Path, offsets: F64) -> None:
    with path.open(newline="") as source, target.open("w", newline="") as sink:
        rows = csv.reader(source)
        lines = csv.writer(sink)
        lines.writerow(next(rows))
        for frame, visible, x, y, *_ in rows:
            dx, dy = offsets[int(frame)]
            lines.writerow([frame, visible, f"{float(x or 0) + dx:.2f}", f"{float(y or 0) + dy:.2f}"])
