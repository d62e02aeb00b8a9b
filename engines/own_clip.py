"""A user's own clip and labels as training crops. Any label file `streamdet eval` reads; no PyTorch needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import LABELS
from engines.data import CROP_PX, Crops, Seen, cut, from_rendered, save, watch
from engines.footage import ROW, Footage, tighten
from engines.render import render_clip
from streamdet.scoring import Labels

__all__ = ["crops_of", "split", "truth_of", "write_crops", "write_rehearsal"]

_WARM_UP = 6  # frames before the first crop: the background must be known
_LABEL_NAMES = {name: number for number, name in enumerate(LABELS)} | {"airplane": 3, "helicopter": 3, "shuttle": 0}
F32 = NDArray[np.float32]


def truth_of(labels: Labels, *, label: str) -> dict[int, F32]:
    """Truth rows (`engines.footage.ROW`) of every labelled frame; a name that is none of ours, or none at all, is `label`.

    Rows marked invisible become places to be ignored.
    """
    other = _LABEL_NAMES[label]
    truth = {int(frame): np.zeros((0, ROW), np.float32) for frame in labels.frames}
    for frame, name, centre, wh, seen in zip(labels.frame, labels.name, labels.centre, labels.wh, labels.visible):
        number = _LABEL_NAMES.get(str(name).lower(), other)
        size = wh if seen else np.maximum(wh, 20)
        row = np.array([[*centre, *size, 0, 0, number, float(seen)]], np.float32)
        truth[int(frame)] = np.concatenate([truth[int(frame)], row])
    return truth


def split(labels: Labels, *, test_share: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Frames to train on and later frames to test on, as (first, end)."""
    frames = labels.frames
    cut_at = int(frames[min(len(frames) - 1, max(1, round(len(frames) * (1 - test_share))))])
    return (int(frames[0]), cut_at), (cut_at, int(frames[-1]) + 1)


def crops_of(
    clip: Path, labels: Labels, rng: np.random.Generator, *, label: str, each: int = 6, others: int = 3
) -> list[Crops]:
    """Of every labelled frame (repeats and the first few apart): `each` crops round every target, `others` anywhere."""
    truth = truth_of(labels, label=label)
    loose = labels.format == "loose boxes"
    last = max(truth, default=-1)
    parts = []
    for seen in watch(clip):
        index = seen.frame.index
        if index > last:
            break
        if index not in truth or index < _WARM_UP or seen.motion.state == "repeat":
            continue
        rows = tighten(seen.motion.luma, seen.motion.background, truth[index]) if loose else truth[index]
        parts.append(cut(seen, rows, _boxes(rng, seen, rows, each, others)))
    return parts


def _boxes(rng: np.random.Generator, seen: Seen, rows: F32, each: int, others: int) -> NDArray[np.int32]:
    """Squares of several sizes: `each` with every target in it, `others` half of them where something moves."""
    wh = np.array(seen.frame.wh)
    middles = [row[:2] for row in rows if row[7] > 0 for _ in range(each)]
    spread = [0.4] * len(middles)
    regions = seen.motion.regions
    for _ in range(others):
        middle = rng.uniform(0, 1, 2) * wh
        if len(regions) and rng.random() < 0.5:
            region = regions[rng.integers(len(regions))]
            middle = (region[:2] + region[2:]) / 2
        middles.append(middle)
        spread.append(0.3)
    scale = np.where(rng.random(len(middles)) < 0.5, 1.0, np.exp(rng.uniform(np.log(0.75), np.log(1.4), len(middles))))
    side = np.minimum(np.rint(CROP_PX / scale), wh.min())[:, None]
    away = rng.uniform(-1, 1, (len(middles), 2)) * np.array(spread)[:, None] * side
    corner = np.rint(np.array(middles) + away - side / 2).clip(0, wh - side)
    return np.concatenate([corner, corner + side], axis=1).astype(np.int32)


def write_crops(clip: Path, labels: Labels, folder: Path, *, label: str, seed: int) -> int:
    """One shard ``own_0`` in `folder`; returns how many crops it holds."""
    parts = crops_of(clip, labels, np.random.default_rng(seed), label=label)
    if not parts:
        raise SystemExit(f"{clip}: no labelled frame from {_WARM_UP} on could be used; label more frames")
    folder.mkdir(parents=True, exist_ok=True)
    return save(folder, "own_0", parts)


def write_rehearsal(clip: Path, labels: Labels, folder: Path, *, label: str, count: int, seed: int) -> int:
    """One shard ``rendered_own``: `count` rendered clips, part of them objects pasted on the labelled part of the user's.

    So that what it could do before is not forgotten: a minute of one clip shows few speeds and sizes.
    """
    rng = np.random.default_rng((seed, 3))
    truth = truth_of(labels, label=label)
    own = Footage(clip, max(truth) + 1, truth, labelled_only=True)
    clips = (render_clip(rng, [own], backgrounds=[own] * 4) for _ in range(count))
    parts = [part for one in clips for part in from_rendered(one, rng)]
    return save(folder, "rendered_own", parts) if parts else 0
