"""COCO average precision and recall, computed by faster-coco-eval (numbers equal to pycocotools', see tests).

The library is the extra ``eval``. Beside COCO's own bands (small: area below 32^2 px, medium: below 96^2, large) there are
finer ones for small objects, which COCO's "small" hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamdet.errors import DependencyError
from streamdet.scoring.coco import BoxResult, CocoTruth

__all__ = ["AveragePrecision", "average_precision"]

_FAR = 1e5
_BANDS = {
    "all": (0.0, _FAR), "small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, _FAR),
    "0-8": (0.0, 8.0), "8-16": (8.0, 16.0), "16-32": (16.0, 32.0), "32+": (32.0, _FAR),
}  # fmt: skip
_COCO_BANDS = ("small", "medium", "large")


@dataclass(frozen=True, slots=True, eq=False)
class AveragePrecision:
    """Scores of one run; None where there are no targets.

    ``precision`` (10 IoU thresholds from 0.5, 101 recalls, classes, bands) and ``recall`` (10, classes, bands, limits) are
    -1 where undefined; ``curve`` is the mean over classes at IoU 0.5, all sizes.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    names: tuple[str, ...]
    targets: tuple[int, ...]
    limits: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def curve(self) -> NDArray[np.float64]:
        """(101,) precision at recall 0, 0.01 ... 1."""
        rows = self.precision[0, :, :, 0]
        rows = rows[:, (rows > -1).all(axis=0)]
        return rows.mean(axis=1) if rows.shape[1] else np.zeros(101)

    def to_dict(self) -> dict[str, Any]:
        """COCO's twelve numbers under its own names, ours beside them, and every class."""
        most = len(self.limits) - 1
        record: dict[str, Any] = {"AP": self._ap(), "AP50": self._ap(iou=0), "AP75": self._ap(iou=5)}
        record |= {f"AP_{band}": self._ap(band=band) for band in _COCO_BANDS}
        record |= {f"AR_{limit}": self._ar(limit=n) for n, limit in enumerate(self.limits)}
        record |= {f"AR_{band}": self._ar(band=band, limit=most) for band in _COCO_BANDS}
        record["AP50_by_size"] = {
            band: value for band in list(_BANDS)[4:] if (value := self._ap(iou=0, band=band)) is not None
        }
        record["by_class"] = {
            name: {
                "AP": self._ap(kind=n),
                "AP50": self._ap(iou=0, kind=n),
                "AP_small": self._ap(band="small", kind=n),
                f"AR_{self.limits[-1]}": self._ar(limit=most, kind=n),
                "targets": self.targets[n],
            }
            for n, name in enumerate(self.names)
            if self.targets[n]
        }
        if self.notes:
            record["notes"] = list(self.notes)
        return record

    def _ap(self, *, iou: int | None = None, band: str = "all", kind: int | None = None) -> float | None:
        rows = self.precision[:, :, :, list(_BANDS).index(band)]
        rows = rows if iou is None else rows[iou : iou + 1]
        return _mean(rows if kind is None else rows[:, :, kind])

    def _ar(self, *, band: str = "all", limit: int, kind: int | None = None) -> float | None:
        rows = self.recall[:, :, list(_BANDS).index(band), limit]
        return _mean(rows if kind is None else rows[:, kind])


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def average_precision(
    truth: CocoTruth, results: Sequence[BoxResult], *, limit: int = 100, notes: Sequence[str] = ()
) -> AveragePrecision:
    """Score `results` against `truth`; at most `limit` boxes of a picture and class count (COCO: 100).

    Raises DependencyError if faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise DependencyError(
            "COCO average precision needs faster-coco-eval, which is not installed; `pip install 'streamdet[eval]'`"
        ) from None
    scored = COCOeval_faster(COCO(_labels(truth)), COCO(_claims(truth, results)), "bbox")
    limits = tuple(sorted({1, 10, max(10, limit)}))
    scored.params.maxDets = list(limits)
    scored.params.areaRng = [[low**2, high**2] for low, high in _BANDS.values()]
    scored.params.areaRngLbl = list(_BANDS)
    scored.evaluate()
    scored.accumulate()
    order = sorted(category.id for category in truth.categories)
    name = {category.id: category.name or str(category.id) for category in truth.categories}
    count = dict.fromkeys(order, 0)
    for row in truth.annotations:
        count[row.category_id] += not row.iscrowd
    return AveragePrecision(
        precision=np.asarray(scored.eval["precision"], np.float64)[..., -1],
        recall=np.asarray(scored.eval["recall"], np.float64),
        names=tuple(name[number] for number in order),
        targets=tuple(count[number] for number in order),
        limits=limits,
        notes=tuple(notes),
    )


def _labels(truth: CocoTruth) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(truth)
    for row in tree["annotations"]:
        row["bbox"] = list(row["bbox"])
        row["area"] = row["area"] if row["area"] is not None else row["bbox"][2] * row["bbox"][3]
    return tree


def _claims(truth: CocoTruth, results: Sequence[BoxResult]) -> dict[str, Any]:
    """What ``loadRes`` makes of a results file; it refuses an empty one."""
    rows = [
        {
            "id": number,
            "image_id": row.image_id,
            "category_id": row.category_id,
            "bbox": list(row.bbox),
            "area": row.bbox[2] * row.bbox[3],
            "iscrowd": 0,
            "score": row.score,
        }
        for number, row in enumerate(results, 1)
    ]
    return {**_labels(CocoTruth(truth.images, [], truth.categories)), "annotations": rows}
