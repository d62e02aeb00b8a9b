"""Several runs on the same labels, side by side: which files belong together, and what each run scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdet.errors import ConfigError, DependencyError
from streamdet.scoring.average_precision import AveragePrecision, average_precision
from streamdet.scoring.coco import BoxResult, Category, CocoTruth
from streamdet.scoring.evaluate import Evaluation, evaluate
from streamdet.scoring.pairing import Pairing
from streamdet.scoring.score import Band

__all__ = ["ComparedRun", "Comparison", "compare"]

F64 = NDArray[np.float64]
_SUFFIXES = (".csv", ".txt", ".json")


@dataclass(slots=True)
class ComparedRun:
    """One run: its files by clip, what its summary says, and its scores by clip."""

    name: str
    files: dict[str, Path]
    summary: dict[str, Any]
    clips: dict[str, Evaluation] = field(default_factory=dict)
    pairs: dict[str, Pairing] = field(default_factory=dict)
    pooled: AveragePrecision | None = None

    @property
    def points(self) -> dict[str, float | None]:
        """Points of all clips together."""
        rows = [one.points for one in self.clips.values()]
        tp, fp, fn = (sum(getattr(row, key) for row in rows) for key in ("tp", "fp", "fn"))
        frames = sum(row.labelled_frames for row in rows)
        errors = np.concatenate([pair.error[pair.by >= 0] for pair in self.pairs.values()] or [np.zeros(0)])
        return {
            "precision": tp / (tp + fp) if tp + fp else None,
            "recall": tp / (tp + fn) if tp + fn else None,
            "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
            "false_per_frame": fp / frames if frames else None,
            "median_error_px": float(np.median(errors)) if len(errors) else None,
            "frames_missing": float(sum(row.frames_missing for row in rows)),
        }

    @property
    def tracking(self) -> dict[str, Any] | None:
        """HOTA and its kin of all clips that have identities, counts added."""
        counts = [one.tracking for one in self.clips.values() if one.tracking is not None]
        if not counts:
            return None
        total = counts[0]
        for more in counts[1:]:
            total = total + more
        return total.to_dict()

    @property
    def fps(self) -> float | None:
        """Frames processed per second, over all clips compared."""
        streams = [s for s in self.summary.get("streams", []) if s.get("stream") in self.files]
        frames, wall = (sum(float(s.get(key) or 0) for s in streams) for key in ("frames", "wall_s"))
        return frames / wall if wall > 0 else None

    def bands(self, which: str) -> dict[str, Band]:
        """Recall by "size" or "speed", all clips together."""
        found: dict[str, list[float]] = {}
        for one in self.clips.values():
            for name, band in getattr(one.points, f"recall_by_{which}").items():
                sums = found.setdefault(name, [0.0, 0.0])
                sums[0] += band.recall * band.count
                sums[1] += band.count
        order = sorted(found, key=lambda name: float(name.rstrip("+").split("-")[0]))
        return {name: Band(found[name][0] / found[name][1], int(found[name][1])) for name in order}

    def curve(self) -> tuple[F64, F64]:
        """Recall and precision as the threshold falls from the best score to the run's own (one pairing for all)."""
        scores, hits, targets = [], [], 0
        for pair in self.pairs.values():
            judged = ~pair.aside
            scores.append(pair.found.score[judged])
            hits.append(pair.on[judged] >= 0)
            targets += int(pair.labels.visible.sum())
        score = np.concatenate(scores or [np.zeros(0)])
        hit = np.concatenate(hits or [np.zeros(0, np.bool_)])
        if not targets or not len(score):
            return np.zeros(0), np.zeros(0)
        order = np.argsort(-score, kind="stable")
        right = np.cumsum(hit[order])
        last = np.append(score[order][1:] != score[order][:-1], True)  # one point per score
        return right[last] / targets, (right / np.arange(1, len(right) + 1))[last]

    def to_dict(self) -> dict[str, Any]:
        """The run's record."""
        return {
            "name": self.name,
            "model": self.summary.get("model"),
            "fps": self.fps,
            "points": self.points,
            "coco": None if self.pooled is None else self.pooled.to_dict(),
            "tracking": self.tracking,
            "recall_by_size": msgspec.to_builtins(self.bands("size")),
            "recall_by_speed": msgspec.to_builtins(self.bands("speed")),
            "clips": {clip: one.to_dict() for clip, one in self.clips.items()},
        }


@dataclass(slots=True)
class Comparison:
    """All runs, the clips they share, and what was scored how."""

    runs: list[ComparedRun]
    clips: list[str]
    labels: dict[str, Path]
    within_px: float
    within_box: bool
    skipped: list[str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "within_px": self.within_px,
            "within_box": self.within_box,
            "labels": {clip: str(path) for clip, path in self.labels.items()},
            "skipped": self.skipped,
            "runs": [run.to_dict() for run in self.runs],
        }


def compare(
    folders: Sequence[str | os.PathLike[str]],
    labels: str | os.PathLike[str],
    *,
    within_px: float = 5.0,
    within_box: bool = False,
    span: tuple[int, int | None] = (0, None),
    limit: int = 100,
) -> Comparison:
    """Score every run of `folders` (output folders, or frames.jsonl files) on the clips that all of them have.

    `labels`: one file, or a folder in which a clip's labels are called like it (``<clip>.csv``, ``.txt``, ``.json``,
    ``<clip>/gt/gt.txt``). Raises ConfigError.
    """
    runs = [_open(Path(folder)) for folder in folders]
    _tell_apart(runs)
    every = list(dict.fromkeys(clip for run in runs for clip in run.files))
    shared = [clip for clip in every if all(clip in run.files for run in runs)]
    skipped = [f"{clip}: not every run has it" for clip in every if clip not in shared]
    truth = _labels_of(Path(labels), shared)
    skipped += [f"{clip}: no labels" for clip in shared if clip not in truth]
    clips = [clip for clip in shared if clip in truth]
    if not clips:
        raise ConfigError(
            f"nothing to compare: of {len(every)} clips, {len(shared)} are in every run, and {labels} has labels of none; "
            "labels are called like the clip (<clip>.csv, .txt, .json)"
        )
    for clip in clips:
        for one_class in (False, True):
            scores = [
                evaluate(
                    run.files[clip],
                    truth[clip],
                    within_px=within_px,
                    within_box=within_box,
                    span=span,
                    limit=limit,
                    one_class=one_class,
                )
                for run in runs
            ]
            if len({one.by_class for one in scores}) == 1:
                break  # else one run knows other classes than the labels: then none is judged by them
        for run, one in zip(runs, scores):
            run.clips[clip] = one
            run.pairs[clip] = Pairing(one.found, one.labels, within_px=within_px, within_box=within_box)
    for run in runs:
        run.pooled = _pooled(run, limit)
    return Comparison(runs, clips, truth, within_px, within_box, skipped)


def _open(folder: Path) -> ComparedRun:
    if folder.is_file():
        name = folder.name.removesuffix(".jsonl").removesuffix(".frames")
        return ComparedRun(folder.parent.name or name, {name: folder}, _summary(folder.parent))
    if not folder.is_dir():
        raise ConfigError(f"the run {folder} does not exist; give a folder `streamdet run --output` wrote")
    files = {path.name.removesuffix(".frames.jsonl"): path for path in sorted(folder.rglob("*.frames.jsonl"))}
    if not files:
        raise ConfigError(f"the run {folder} holds no *.frames.jsonl; give a folder `streamdet run --output` wrote")
    return ComparedRun(folder.resolve().name, files, _summary(folder))


def _summary(folder: Path) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode((folder / "summary.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _tell_apart(runs: list[ComparedRun]) -> None:
    """Runs of one name get their number."""
    names = [run.name for run in runs]
    for number, run in enumerate(runs):
        if names.count(names[number]) > 1:
            run.name = f"{run.name} ({names[: number + 1].count(names[number])})"


def _labels_of(labels: Path, clips: Sequence[str]) -> dict[str, Path]:
    if labels.is_file():
        if len(clips) > 1:
            raise ConfigError(
                f"{labels} is one label file and the runs have {len(clips)} clips; give a folder of labels"
            )
        return dict.fromkeys(clips, labels)
    if not labels.is_dir():
        raise ConfigError(f"labels {labels} do not exist; give a label file or a folder of them")
    found: dict[str, Path] = {}
    for clip in clips:
        places = [labels / f"{clip}{suffix}" for suffix in _SUFFIXES]
        places.append(labels / clip / "gt" / "gt.txt")
        existing = next((place for place in places if place.is_file()), None)
        if existing is not None:
            found[clip] = existing
    return found


def _pooled(run: ComparedRun, limit: int) -> AveragePrecision | None:
    """Average precision over the pictures of all clips; classes are one if their names are."""
    parts = [one.boxes_of for one in run.clips.values() if one.boxes is not None and one.boxes_of is not None]
    if len(parts) <= 1:
        return next((one.boxes for one in run.clips.values() if one.boxes is not None), None)
    names = sorted({category.name for truth, _ in parts for category in truth.categories})
    number = {name: n for n, name in enumerate(names, 1)}
    whole = CocoTruth([], [], [Category(n, name) for name, n in number.items()])
    results: list[BoxResult] = []
    for truth, claims in parts:
        first = 1 + max((picture.id for picture in whole.images), default=-1)
        kind = {category.id: number[category.name] for category in truth.categories}
        whole.images += [msgspec.structs.replace(picture, id=first + picture.id) for picture in truth.images]
        for row in truth.annotations:
            whole.annotations.append(
                msgspec.structs.replace(
                    row, image_id=first + row.image_id, category_id=kind[row.category_id], id=len(whole.annotations) + 1
                )
            )
        results += [
            msgspec.structs.replace(row, image_id=first + row.image_id, category_id=kind[row.category_id])
            for row in claims
        ]
    try:
        return replace(average_precision(whole, results, limit=limit), notes=())
    except DependencyError:
        return None
