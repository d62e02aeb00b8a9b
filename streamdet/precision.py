"""What a faster copy of a model is worth: calibration on the user's own clips, and how far its objects are from the model's.

Both see what `streamdet run` would show the network: tiles chosen by the motion model and the scheduler, packed by the packer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet import boxes
from streamdet.assemble import open_source
from streamdet.config import Config, with_values
from streamdet.errors import UsageError
from streamdet.inputspec import InputSpec
from streamdet.merge import Merger
from streamdet.places import sources_of
from streamdet.protocols import Detector
from streamdet.types import F32, Detections, TileBatch, Tracks

__all__ = ["Agreement", "agreement", "calibration_tiles", "packed"]

_FREE_PX = 320
_SAME_IOU = 0.5
_SAME_PX = 2.0  # of 3 px objects a pixel of difference takes any overlap: their centres are compared


def packed(
    clips: Sequence[str], spec: InputSpec, config: Config, *, every: int = 10, frames: int = 300, tiles: int = 8
) -> Iterator[TileBatch]:
    """Of every `every`-th of the first `frames` frames of each clip, up to `tiles` tiles, packed for `spec`.

    The motion model sees every frame. A batch is valid until the next one is asked for. Raises SourceOpenError.
    """
    from streamdet.motion.model import MotionModel
    from streamdet.tiles.pack_cpu import CpuPacker
    from streamdet.tiles.plan import plan_tiles
    from streamdet.tiles.schedule import TileScheduler

    rng = np.random.default_rng(0)
    limited = with_values(config, {"source.max_frames": 0})
    for place in sources_of(clips):
        motion_model, packer = MotionModel(config.motion), CpuPacker(spec)
        scheduler = TileScheduler(
            config.tiles,
            make_plan=lambda wh: plan_tiles(
                wh, input_wh=spec.wh, config=config.tiles, stretch=spec.stretch, stride=spec.stride
            ),
        )
        with open_source(place, limited) as source:
            for frame in source:
                if frame.index >= frames:
                    break
                motion = motion_model(frame)
                if motion.state == "repeat":
                    continue
                plan = scheduler(frame, motion, Tracks.empty())
                wanted = bool(len(plan)) and (frame.still or frame.index % every == every // 2)
                rows = np.sort(rng.permutation(len(plan))[: tiles if wanted else 0])
                batch = packer(frame, motion, plan[rows])
                if wanted:
                    yield batch


def calibration_tiles(clips: Sequence[str], spec: InputSpec, config: Config) -> Iterator[NDArray[Any]]:
    """Batches of network input from `clips`, spread over their first minute or so. Raises UsageError if there is nothing.

    A network of any size is shown unscaled tiles of one size, whatever the clips': calibration counts over equal shapes.
    """
    if spec.wh is None:
        spec = replace(spec, wh=(_FREE_PX, _FREE_PX))
        config = with_values(config, {"tiles.tile": _FREE_PX})
    given = False
    for batch in packed(clips, replace(spec, dtype="float32"), config, every=15, frames=900, tiles=4):
        given = True
        yield np.array(batch.data)
    if not given:
        raise UsageError(f"--calibrate {' '.join(clips)}: no tiles came of it; give clips of more than a few frames")


@dataclass(slots=True)
class Agreement:
    """Objects (merged rows at the threshold, per frame) of a model and of its copy."""

    frames: int = 0
    tiles: int = 0
    objects: int = 0  # of the model
    found: int = 0  # ... that the copy shows too
    below: int = 0  # ... that it sees, but below the threshold
    lost: int = 0
    new: int = 0  # shown by the copy alone, not even seen by the model
    score: list[float] = field(default_factory=list)  # |difference| of those both see
    centre_px: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "tiles": self.tiles,
            "objects": self.objects,
            "found": self.found,
            "below_threshold": self.below,
            "lost": self.lost,
            "new": self.new,
            "score_difference": _spread(self.score),
            "centre_px": _spread(self.centre_px),
        }

    @property
    def text(self) -> str:
        if not self.objects and not self.new:
            return f"no objects in {self.frames} frames to compare: try clips that show what you look for"
        score = _spread(self.score)
        moved = f"; scores differ by {score['median']:.4f} (median), {score['max']:.4f} at most" if score else ""
        return (
            f"of the model's {self.objects} objects in {self.frames} frames the copy shows {self.found}, sees {self.below} "
            f"below the threshold, misses {self.lost}; {self.new} are new{moved}"
        )


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = np.asarray(values)
    median, p95 = np.percentile(ordered, (50, 95))
    return {"median": round(float(median), 5), "p95": round(float(p95), 5), "max": round(float(ordered.max()), 5)}


def agreement(model: Detector, copy: Detector, batches: Iterator[TileBatch], config: Config) -> Agreement:
    """Run both (entered) detectors on the same tiles. Thresholds are the model's."""
    assert model.input is not None
    assert copy.input is not None
    dtype = np.dtype(copy.input.dtype)
    merger, said = Merger(config.merge), Agreement()
    for batch in batches:
        said.frames += 1
        said.tiles += len(batch.tiles)
        data = np.array(batch.data)  # a backend may read it while the packer goes on
        strong, weak = _objects(model, replace(batch, data=data), merger, model.thresholds)
        theirs, theirs_weak = _objects(copy, replace(batch, data=data.astype(dtype)), merger, model.thresholds)
        _compare(said, strong, weak, theirs, theirs_weak)
    return said


def _objects(detector: Detector, batch: TileBatch, merger: Merger, thresholds: F32) -> tuple[Detections, Detections]:
    found = detector(batch)
    strong = found.score >= thresholds[found.label]
    merged = merger(found[strong])
    return merged, merger.beside(merged, found[~strong])


def _compare(said: Agreement, ours: Detections, weak: Detections, theirs: Detections, theirs_weak: Detections) -> None:
    said.objects += len(ours)
    both = Detections.concat([theirs, theirs_weak])
    row, partner = _pairs(ours, both)
    said.score += np.abs(ours.score[row] - both.score[partner]).tolist()
    gap = boxes.centres(ours.xyxy[row]) - boxes.centres(both.xyxy[partner])
    said.centre_px += np.hypot(gap[:, 0], gap[:, 1]).tolist()
    shown = int(np.count_nonzero(partner < len(theirs)))
    said.found += shown
    said.below += len(partner) - shown
    said.lost += len(ours) - len(row)
    taken, _ = _pairs(theirs, Detections.concat([ours, weak]))
    said.new += len(theirs) - len(taken)


def _pairs(ours: Detections, theirs: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that show the same thing, each used once, the best first."""
    if not len(ours) or not len(theirs):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    overlap = np.asarray(boxes.iou(ours.xyxy, theirs.xyxy), np.float64)
    apart = boxes.centres(ours.xyxy)[:, None] - boxes.centres(theirs.xyxy)[None]
    near = np.hypot(apart[..., 0], apart[..., 1]) <= _SAME_PX
    fit = np.where((ours.label[:, None] == theirs.label[None]) & ((overlap >= _SAME_IOU) | near), overlap + 1.0, 0.0)
    rows, partners = [], []
    for flat in np.argsort(-fit, axis=None, kind="stable"):
        row, partner = divmod(int(flat), len(theirs))
        if fit[row, partner] <= 0:
            break
        if row not in rows and partner not in partners:
            rows.append(row)
            partners.append(partner)
    return np.asarray(rows, np.intp), np.asarray(partners, np.intp)
