"""The operating point: calibration and threshold to store in the file. ``python -m engines.operating RAW.onnx --data DATA``.

RAW is exported with ``--gain 1 --bias 0``; what is printed is given to the final export.

Every validation clip goes once through motion model, packer and network with a low floor; then the real tracker is run
over what was found at each threshold. Looked at: held-out clips of `train_air`, the tennis clip, the later parts of the
pedestrian, car and people clips (nothing may be found there), and rendered halls (`engines.halls`), for there is no hall in
the footage. Scores are calibrated without the halls. Never badminton.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

from engines.data import NETWORK_INPUT, watch
from engines.footage import air_clips
from engines.halls import hall_clips
from engines.render import FRAMES
from streamdet.config import Config, ModelConfig, TrackerConfig
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.merge import Merger
from streamdet.scoring.labels import Found, Labels, read_labels
from streamdet.scoring.score import point_score
from streamdet.tiles.plan import plan_tiles
from streamdet.tracking.belief import WARY_OF_NETWORKS
from streamdet.tracking.tracker import Tracker
from streamdet.types import STATE_NAMES, Detections, Frame, Motion, Picture, Tracks

__all__ = ["THRESHOLDS", "Observed", "follow", "mean_f1", "observe", "score_at", "worth"]

_SAME = 0.005  # of the rule's value
_HALLS = ("hall", "hall_quiet")
_HALLS_WEIGH = 0.5
_FLOOR = 0.15  # of scores that are not calibrated yet
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)


@dataclass(frozen=True, slots=True)
class Observed:
    """A clip as the network saw it: frames and motions without pixels, detections above the floor."""

    group: str
    name: str
    frames: list[tuple[Frame, Motion, Detections]]
    labels: Labels | None


def observe(
    detector: NetworkDetector, path: Path, group: str, labels: Labels | None, *, first: int = 0, count: int = 100
) -> Observed:
    """Run the network over `count` frames from `first`."""
    frames: list[tuple[Frame, Motion, Detections]] = []
    blank: Picture | None = None
    for seen in watch(path, first=first, spec=NETWORK_INPUT):
        frame, motion = seen.frame, seen.motion
        if frame.index >= first + count:
            break
        if blank is None:
            plane = np.zeros(frame.wh[::-1], np.uint8)
            blank = Picture(plane, make_bgr=lambda plane=plane: np.repeat(plane[..., None], 3, 2))
        found = Detections.empty()
        if motion.state != "repeat":
            plan = plan_tiles(frame.wh, input_wh=None, config=Config().tiles, stride=NETWORK_INPUT.stride)
            found = detector(seen.packer(frame, motion, plan))
        thin = Frame(frame.stream, frame.index, frame.pts_s, blank, frame.captured_s)
        frames.append((thin, Motion(blank.luma, state=motion.state, shift_xy=motion.shift_xy, dt_s=motion.dt_s), found))
    return Observed(group, path.stem, frames, labels)


def follow(observed: Observed, threshold: float) -> Found:
    """Merge and track what was found, at a threshold; the tracker also gets the weak rows, as in the pipeline."""
    tracker, merger = Tracker(TrackerConfig(), threshold=threshold, wary=WARY_OF_NETWORKS), Merger()
    shown: list[tuple[int, Tracks]] = []
    merged = weak = Detections.empty()
    for frame, motion, found in observed.frames:
        if motion.state != "repeat":
            strong = found.score >= threshold
            merged = merger(found[strong])
            weak = merger.beside(merged, found[~strong & (found.score >= 0.4 * threshold)])
        tracks = tracker.update(frame, motion, Detections.concat([merged, weak])).shown
        shown.append((frame.index, tracks))
    every = [tracks for _, tracks in shown]
    return Found(
        frames=np.array([frame.index for frame, _, _ in observed.frames], np.int64),
        pts_s=np.array([frame.pts_s for frame, _, _ in observed.frames], np.float64),
        frame=np.repeat([index for index, _ in shown], [len(tracks) for tracks in every]).astype(np.int64),
        track=np.concatenate([tracks.id for tracks in every]),
        score=np.concatenate([tracks.score for tracks in every]).astype(np.float64),
        xyxy=np.concatenate([tracks.xyxy for tracks in every]).astype(np.float64),
        name=np.concatenate([tracks.label for tracks in every]).astype(np.str_),
        state=np.array([STATE_NAMES[state] for tracks in every for state in tracks.state], np.str_),
    )


def score_at(observed: list[Observed], threshold: float, within_px: float | None = None) -> dict[str, dict[str, float]]:
    """Per group: F1, precision, recall, false per frame, share of clips with something false, over the frames looked at."""
    sums: dict[str, np.ndarray] = {}
    for clip in observed:
        found = follow(clip, threshold)
        frames = len(found.frames)
        if clip.labels is None:
            part = np.array([0, len(found.frame), 0, frames, 1, len(found.frame) > 0])
        else:
            looked = Labels(**{name: _cut(clip.labels, name, found.frames) for name in clip.labels.__slots__})
            px = within_px or {"tennis": 10.0}.get(clip.group, 12.0)
            score = point_score(found, looked, within_px=px, within_box=clip.group.startswith("air"))
            part = np.array([score.tp, score.fp, score.fn, frames, 1, score.fp > 0])
        sums[clip.group] = sums.get(clip.group, np.zeros(6)) + part
    table = {}
    for group, (tp, fp, fn, frames, clips, marred) in sums.items():
        table[group] = {
            "f1": 2 * tp / max(2 * tp + fp + fn, 1),
            "precision": tp / max(tp + fp, 1),
            "recall": tp / max(tp + fn, 1),
            "false_per_frame": fp / max(frames, 1),
            "clips_with_false": marred / clips,
        }
    return table


def recalibration(observed: list[Observed]) -> tuple[float, float]:
    """(gain, bias) of the logit that make a score the chance to be right *in footage*, every group of it weighing the same.

    Logistic regression on one feature (Platt scaling), by Newton's method.
    """
    logits, hits, weights = [], [], []
    observed = [clip for clip in observed if clip.group not in _HALLS]
    for group in {clip.group for clip in observed}:
        score, hit = (
            np.concatenate(column) for column in zip(*(_judged(clip) for clip in observed if clip.group == group))
        )
        score = score.astype(np.float64).clip(1e-4, 1 - 1e-4)
        logits.append(np.log(score / (1 - score)))
        hits.append(hit)
        weights.append(np.full(len(hit), 1 / max(sum(len(clip.frames) for clip in observed if clip.group == group), 1)))
    x = np.stack([np.concatenate(logits), np.ones(sum(map(len, hits)))], 1)
    y, w, beta = np.concatenate(hits).astype(np.float64), np.concatenate(weights), np.array([1.0, 0.0])
    for _ in range(50):
        q = 1 / (1 + np.exp(-x @ beta))
        hessian = (x * (w * q * (1 - q))[:, None]).T @ x + 1e-9 * np.eye(2)
        beta = beta + np.linalg.solve(hessian, x.T @ (w * (y - q)))
    return float(beta[0]), float(beta[1])


def _judged(clip: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Scores of single finds in labelled frames and whether each is right (within 12 px)."""
    scores, hits = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    for frame, _, found in clip.frames:
        if clip.labels is not None and frame.index not in clip.labels.frames:
            continue
        centre = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
        right = np.zeros(len(found), bool)
        if clip.labels is not None:
            target = clip.labels.centre[(clip.labels.frame == frame.index) & clip.labels.visible]
            right = (np.linalg.norm(centre[:, None] - target[None], axis=2) < 12).any(1)
        scores.append(found.score)
        hits.append(right)
    return np.concatenate(scores), np.concatenate(hits)


def _cut(labels: Labels, name: str, frames: np.ndarray) -> object:
    value = getattr(labels, name)
    if name == "frames":
        return value[np.isin(value, frames)]
    if isinstance(value, np.ndarray) and len(value) == len(labels.frame):
        return value[np.isin(labels.frame, frames)]
    return value


def _recalibrated(clip: Observed, gain: float, bias: float) -> Observed:
    frames = []
    for frame, motion, found in clip.frames:
        score = found.score.astype(np.float64).clip(1e-4, 1 - 1e-4)
        score = 1 / (1 + np.exp(-gain * np.log(score / (1 - score)) - bias))
        frames.append((frame, motion, replace(found, score=score.astype(np.float32))))
    return Observed(clip.group, clip.name, frames, clip.labels)


def validation(detector: NetworkDetector, root: Path, *, air: int = 20, halls: int = 36) -> list[Observed]:
    """The clips named in the module's text."""
    clips = root / "clips"
    held = air_clips(root, held_out=True)
    visible, thermal = ([clip for clip in held if clip.path.stem.startswith(start)] for start in ("V_", "IR_"))
    found = []
    for group, some in (
        ("air_visible", visible[: air // 2]),
        ("air_thermal", thermal[:: max(1, len(thermal) * 2 // air)]),
    ):
        for clip in some:
            labels = read_labels(clip.path.with_suffix(".csv"))
            found.append(observe(detector, clip.path, group, labels, first=60, count=45))
    tennis = clips / "tennis_amateur"
    found.append(observe(detector, tennis / "clip.mp4", "tennis", read_labels(tennis / "labels.csv"), count=100))
    for name, file, first in (
        ("pedestrians", "vtest_480x360.avi", 500),
        ("cars", "car-detection.mp4", 180),
        ("people", "one-by-one-person-detection.mp4", 700),
    ):
        found.append(observe(detector, clips / name / file, "quiet", None, first=first, count=100))
    for flying, group in zip((True, False), _HALLS):
        for path, truth in hall_clips(flying=flying, count=halls):
            found.append(observe(detector, path, group, truth if flying else None, count=FRAMES))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engines.operating", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    config = ModelConfig(name=str(given.model), backend="onnxruntime", threads=1, conf=_FLOOR)
    with open_detector(config, given.model) as detector:
        observed = validation(detector, given.data)
    gain, bias = recalibration(observed)
    print(f"in footage: gain {gain:.3f} bias {bias:.3f}")
    observed = [_recalibrated(clip, gain, bias) for clip in observed]
    values = []
    for threshold in THRESHOLDS:
        table = score_at(observed, threshold)
        values.append(worth(table))
        words = "; ".join(
            f"{name} P {r['precision']:.2f} R {r['recall']:.2f} F1 {r['f1']:.3f} false {r['false_per_frame']:.3f}"
            + f" in {r['clips_with_false']:.2f} of clips"
            for name, r in table.items()
        )
        print(f"{threshold:.2f} {values[-1]:.3f} {words}", flush=True)
    print(f"threshold {best_threshold(values)}")


def mean_f1(table: dict[str, dict[str, float]]) -> float:
    """Of the groups of footage that hold targets."""
    return float(np.mean([row["f1"] for name, row in table.items() if name not in ("quiet", *_HALLS)]))


def worth(table: dict[str, dict[str, float]]) -> float:
    """`mean_f1`, minus false per frame of quiet footage, minus half the share of rendered halls in which anything is false.

    The share, because one thing that goes on for a clip would outweigh everything: halls are many and short. What is *found* in
    them does not count: a network taught more of the renderer's shuttles finds a third more of them, and none more in real
    halls.
    """
    halls = [table[name]["clips_with_false"] for name in _HALLS if name in table]
    return mean_f1(table) - table["quiet"]["false_per_frame"] - _HALLS_WEIGH * float(np.mean(halls or [0.0]))


def best_threshold(values: list[float]) -> float:
    """The rule: `worth`, averaged over three neighbouring thresholds, is highest; of those as good within `_SAME`, the highest.

    Averaged, because a track more or less in a hundred frames makes single values jump; the highest, because where validation
    cannot tell, a false object in a place nobody has seen is likelier than a find.
    """
    padded = np.pad(np.array(values), 1, mode="edge")
    smooth = np.convolve(padded, np.ones(3) / 3, "valid")
    return THRESHOLDS[int(np.flatnonzero(smooth >= smooth.max() - _SAME)[-1])]


if __name__ == "__main__":
    main()
