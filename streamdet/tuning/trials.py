"""Trying ways to look at a clip: which are worth trying, how fast each is here, and what each finds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamdet.assemble import frames_held
from streamdet.config import Config, with_values
from streamdet.inputspec import InputSpec
from streamdet.scoring.evaluate import evaluate
from streamdet.scoring.labels import Found, Labels, read_frames_jsonl
from streamdet.scoring.score import point_score
from streamdet.tuning.sizes import ObjectSizes

__all__ = ["Candidate", "Trial", "candidates", "run_once", "score", "steady_fps"]

NETWORK_PX = 6.0  # an object this large at the network is surely seen ...
LEAST_PX = 3.0  # ... and below this hopeless
LARGEST_OVERLAP, SMALLEST_OVERLAP = 0.5, 0.1
WARM_UP = 8  # frames not timed: the first one runs all tiles and fills caches


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to look: what goes into ``tiles``. ``zoom``: input px per frame px."""

    tile: str
    overlap: float
    look: str
    whole_frame: bool
    zoom: float

    def values(self) -> dict[str, Any]:
        """Leaves of the configuration."""
        tile: int | str = int(self.tile) if self.tile.isdigit() else self.tile
        return {
            "tiles.tile": tile,
            "tiles.overlap": self.overlap,
            "tiles.look": self.look,
            "tiles.whole_frame": self.whole_frame,
        }


@dataclass(slots=True)
class Trial:
    """A candidate, tried. ``fps``: one value per round; ``frames`` processed in the first; ``file``: its frames.jsonl."""

    candidate: Candidate
    file: Path
    fps: list[float] = field(default_factory=list)
    frames: int = 0
    tiles_run: float = 0.0
    tiles_of: float = 0.0
    recall: float | None = None
    precision: float | None = None
    f1: float | None = None
    is_reference: bool = False

    @property
    def speed(self) -> float:
        """Frames per second: the median of the rounds."""
        return statistics.median(self.fps) if self.fps else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.candidate.values(),
            "zoom": round(self.candidate.zoom, 4),
            "fps": round(self.speed, 3),
            "fps_rounds": [round(value, 3) for value in self.fps],
            "frames": self.frames,
            "tiles_per_frame": round(self.tiles_run, 2),
            "tiles": round(self.tiles_of, 2),
            "recall": self.recall,
            "precision": self.precision,
            "f1": self.f1,
            "reference": self.is_reference,
        }


def candidates(
    frame_wh: tuple[int, int], spec: InputSpec, sizes: ObjectSizes | None, *, still: bool
) -> list[Candidate]:
    """What is worth trying, the finest look at everything first (the reference).

    Objects decide: a zoom at which half of them reach the network with less than 3 px is left out, and none is tried beyond
    the one that gives nearly all of them 6 px. Overlap is what a large object (95 %) needs to be whole in some tile.
    """
    small, half, large = (sizes.at(5), sizes.at(50), sizes.at(95)) if sizes is not None else (6.0, 12.0, 32.0)
    looks = ("all",) if still else ("all", "motion")
    tiles: list[tuple[str, float, int]] = []  # name, zoom, its side in frame px
    if spec.wh is None:
        tiles += [(str(side), 1.0, side) for side in (320, 640, 1280) if side < max(frame_wh)]
        tiles.append(("none", 1.0, max(frame_wh)))
    else:
        whole = min(spec.wh[0] / frame_wh[0], spec.wh[1] / frame_wh[1])
        for zoom in (2.0, 1.0, 2 / 3, 0.5):
            needless = zoom > 1 and small * zoom / 2 >= NETWORK_PX
            if zoom > whole * 1.1 and not needless and half * zoom >= LEAST_PX:
                side = max(16, math.floor(spec.wh[0] / zoom) // 2 * 2)
                tiles.append((str(side), zoom, side))
        tiles.append(("none", whole, max(frame_wh)))
    found = []
    for name, zoom, side in tiles:
        overlap = 0.0 if name == "none" else min(max(1.25 * large / side, SMALLEST_OVERLAP), LARGEST_OVERLAP)
        too_large = name != "none" and 1.25 * large > LARGEST_OVERLAP * side
        for look in looks:
            if name == "none" and look == "motion" and spec.wh is None:
                continue
            found.append(Candidate(name, round(overlap or 0.2, 2), look, too_large, zoom))
    return sorted(found, key=lambda one: (one.look != "all", -one.zoom, one.tile == "none", len(one.tile), one.tile))


def run_once(config: Config, trial: Trial, *, frames: int, seconds: float, first: bool) -> None:
    """Run `trial` on up to `frames` frames or `seconds`; its speed is added, in the first round also what it found."""
    from streamdet.api import Run

    values: dict[str, Any] = {**trial.candidate.values(), "source.max_frames": frames}
    if first:
        values["output.frames"] = str(trial.file)
    run = Run(with_values(config, values))
    stopped = False
    times: list[float] = []
    stamps: list[float] = []
    tiles: list[tuple[int, int]] = []
    for result in run:
        times.append(time.perf_counter())
        stamps.append(result.frame.pts_s)
        tiles.append((result.tiles.slots, result.tiles.of) if result.tiles is not None else (0, 0))
        if times[-1] - times[0] > seconds and len(times) > WARM_UP + 4:
            stopped = True
            run.stop()
    assert run.assembled is not None
    media_s = stamps[-1] - stamps[0] if stamps else 0.0
    usual = frames_held((len(stamps) - 1) / media_s if media_s > 0 else None)
    held = usual if config.tracker.look_back is None else config.tracker.look_back
    held = 0 if stopped or run.assembled.specs[0].still else held
    trial.fps.append(steady_fps(times, held) or run.summary["streams"][0]["fps"])
    if first:
        trial.frames = len(times)
        later = np.array(tiles[min(WARM_UP, max(0, len(times) - 3)) :], np.float64).reshape(-1, 2)
        trial.tiles_run, trial.tiles_of = later.mean(axis=0).tolist() if len(later) else (0.0, 0.0)


def steady_fps(times: Sequence[float], held: int) -> float | None:
    """Results per second after the warm-up, given when each came; None for too few.

    The last `held` come all at once when the clip ends: they were looked at before.
    """
    times = times[: len(times) - held] if held else times
    skip = min(WARM_UP, max(0, len(times) - 3))
    if len(times) - skip < 2 or times[-1] <= times[skip]:
        return None
    return (len(times) - 1 - skip) / (times[-1] - times[skip])


def score(
    trials: Sequence[Trial], labels: str | None, *, within_px: float, within_box: bool, span: tuple[int, int]
) -> None:
    """Fill in recall, precision and F1 of every trial: against `labels`, or against the reference (the first trial)."""
    reference = next(trial for trial in trials if trial.is_reference)
    truth = None if labels is not None else as_truth(read_frames_jsonl(reference.file), span)
    for trial in trials:
        if labels is not None:
            found = evaluate(trial.file, labels, within_px=within_px, within_box=within_box, span=span).points
        else:
            assert truth is not None
            found = point_score(read_frames_jsonl(trial.file), truth, within_px=within_px, within_box=True)
        trial.recall, trial.precision, trial.f1 = found.recall, found.precision, found.f1


def as_truth(found: Found, span: tuple[int, int]) -> Labels:
    """What a run saw, taken for truth: its confirmed objects in the frames of `span`."""
    frames = np.unique(found.frames[(found.frames >= span[0]) & (found.frames < span[1])])
    rows = np.flatnonzero(np.isin(found.frame, frames) & np.isin(found.state, ("confirmed", "")))
    rows = rows[np.argsort(found.frame[rows], kind="stable")]
    return Labels(
        frames=frames,
        frame=found.frame[rows],
        id=found.track[rows],
        name=found.name[rows],
        centre=found.centre[rows],
        wh=found.xyxy[rows, 2:] - found.xyxy[rows, :2],
        visible=np.ones(len(rows), np.bool_),
        format="boxes",
    )
