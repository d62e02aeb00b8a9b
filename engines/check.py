"""How good weights are on held-out crops: best F1 within 6 px, box overlap and class. For the eye while training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from engines.contract import STRIDE
from engines.data import load, unpack
from engines.network import TinyMover

__all__ = ["Check", "check_crops", "peaks"]

_WITHIN_PX = 6.0
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Check:
    """Scores of one group of crops."""

    f1: float
    threshold: float
    precision: float
    recall: float
    iou: float
    right_class: float

    def __str__(self) -> str:
        rates = f"F1 {self.f1:.3f} at {self.threshold:.2f} (P {self.precision:.2f} R {self.recall:.2f})"
        return f"{rates}, IoU {self.iou:.2f}, class {self.right_class:.2f}"


@torch.no_grad()
def peaks(net: TinyMover, picture: F32, floor: float = 0.05) -> list[F32]:
    """For every sample (k,6): cx, cy, w, h px, score, class; in no order."""
    maps = net.eval()(torch.from_numpy(picture)).float()
    heat = torch.sigmoid(maps[:, 0])
    top = (heat >= functional.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]) & (heat >= floor)
    found = []
    for sample in range(len(maps)):
        row, column = torch.nonzero(top[sample], as_tuple=True)
        at = maps[sample][:, row, column]
        centre = (torch.stack([column, row]) + at[1:3].clamp(-2, 3)) * STRIDE
        parts = [centre, at[3:5].exp(), heat[sample, row, column][None], at[5:].argmax(0)[None].float()]
        found.append(torch.cat(parts).T.numpy())
    return found


def check_crops(net: TinyMover, folder: Path, *, most: int = 2000) -> dict[str, str]:
    """Every ``val_*`` shard of `folder`, at most `most` crops of each."""
    return {
        path.name.split(".")[0]: str(_check(net, folder, path.name.split(".")[0], most))
        for path in sorted(folder.glob("val_*.crops.npy"))
    }


@dataclass(slots=True)
class _Found:
    scores: list[float]
    hits: list[bool]
    wanted: int
    overlaps: list[float]
    right: list[bool]


def _found(net: TinyMover, folder: Path, name: str, most: int) -> _Found:
    crops = load(folder, name)[0]
    chosen = np.linspace(0, len(crops) - 1, min(most, len(crops))).astype(int)
    scores, hits, wanted, overlaps, right = [], [], 0, [], []
    for start in range(0, len(chosen), 32):
        rows = chosen[start : start + 32]
        for truth, found in zip(crops.truth[rows], peaks(net, unpack(crops.planes[rows]))):
            truth = truth[(truth[:, 6] >= 0) | (truth[:, 2] > 0)]
            inside = ((truth[:, :2] > 0) & (truth[:, :2] < crops.planes.shape[-1])).all(1) & (truth[:, 7] > 0)
            wanted += int(inside.sum())
            free = np.ones(len(truth), bool)
            for one in found[np.argsort(-found[:, 4])]:
                gap = np.hypot(*(truth[:, :2] - one[:2]).T)
                near = gap < _WITHIN_PX + 0.25 * np.hypot(truth[:, 4], truth[:, 5])
                best = int(np.argmin(np.where(near & free & inside, gap, 1e9))) if (near & free & inside).any() else -1
                if best < 0 and (gap < np.maximum(truth[:, 2:4].max(1) / 2, 3) + 8)[~inside | ~free].any():
                    continue  # what is to be ignored, or a second peak on what is found already
                scores.append(one[4])
                hits.append(best >= 0)
                if best >= 0:
                    free[best] = False
                    right.append(one[5] == truth[best, 6])
                    if truth[best, 2] > 0:
                        overlaps.append(_overlap(one, truth[best]))
    return _Found(scores, hits, wanted, overlaps, right)


def _check(net: TinyMover, folder: Path, name: str, most: int) -> Check:
    found = _found(net, folder, name, most)
    scores, hits, wanted = found.scores, found.hits, found.wanted
    order = np.argsort(-np.array(scores))
    hit = np.cumsum(np.array(hits)[order])
    precision, recall = hit / np.arange(1, len(hit) + 1), hit / max(wanted, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(np.argmax(f1))
    return Check(
        float(f1[best]),
        float(np.array(scores)[order][best]),
        float(precision[best]),
        float(recall[best]),
        float(np.median(found.overlaps)),
        float(np.mean(found.right)),
    )


def _overlap(a: F32, b: F32) -> float:
    low = np.maximum(a[:2] - a[2:4] / 2, b[:2] - b[2:4] / 2)
    high = np.minimum(a[:2] + a[2:4] / 2, b[:2] + b[2:4] / 2)
    both = float(np.prod(np.clip(high - low, 0, None)))
    return both / (float(a[2] * a[3] + b[2] * b[3]) - both + 1e-6)
