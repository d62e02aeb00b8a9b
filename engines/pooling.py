"""Scores of many clips as one: counts are added, bands too; medians weigh each clip by what was found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["pool"]

Record = dict[str, Any]


def pool(clips: Mapping[str, Record]) -> Record:
    """Of `PointScore.to_dict()` records."""
    scores = list(clips.values())
    tp, fp, fn, frames = (sum(one[key] for one in scores) for key in ("tp", "fp", "fn", "labelled_frames"))
    return {
        "precision": round(tp / (tp + fp), 4) if tp + fp else None,
        "recall": round(tp / (tp + fn), 4) if tp + fn else None,
        "f1": round(2 * tp / (2 * tp + fp + fn), 4) if tp + fn else None,
        "false_per_frame": round(fp / frames, 4) if frames else None,
        "labelled_frames": frames,
        "top1": _mean((one["top1"], one["tp"] + one["fn"]) for one in scores),
        "median_error_px": _median((one["median_error_px"], one["tp"]) for one in scores),
        "median_iou": _median((one["median_iou"], one["tp"]) for one in scores),
        "first_delay_frames": _median((one["first_delay_frames"], 1) for one in scores),
        "id_switches": sum(one["id_switches"] for one in scores),
        "never_found": sum(one["never_found"] for one in scores),
        "recall_by_speed": _bands(one["recall_by_speed"] for one in scores),
        "recall_by_size": _bands(one["recall_by_size"] for one in scores),
    }


def _mean(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None and weight]
    return round(sum(v * w for v, w in known) / sum(w for _, w in known), 4) if known else None


def _median(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    """Weighted: the value at which half of the weight lies below."""
    known = sorted((value, weight) for value, weight in pairs if value is not None and weight)
    if not known:
        return None
    heap = np.cumsum([weight for _, weight in known])
    return round(known[int(np.searchsorted(heap, heap[-1] / 2))][0], 4)


def _bands(parts: Iterable[Mapping[str, Record]]) -> dict[str, Record]:
    hits: dict[str, float] = {}
    counts: dict[str, int] = {}
    for part in parts:
        for name, band in part.items():
            hits[name] = hits.get(name, 0.0) + band["recall"] * band["count"]
            counts[name] = counts.get(name, 0) + band["count"]
    names = sorted(counts, key=lambda name: float(name.rstrip("+").split("-")[0]))
    return {name: {"recall": round(hits[name] / counts[name], 4), "count": counts[name]} for name in names}
