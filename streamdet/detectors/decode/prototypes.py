"""Masks of the YOLO segmentation exports: every object is a mixture of a tile's prototype maps.

Source: YOLACT (Bolya et al. 2019) as Ultralytics exports it: a row's mask is where ``coefficients . prototypes > 0`` (the sigmoid
above a half), inside its box. A mixture is made only for objects that survive suppression, only where their box is, and directly
at the frame's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.decode.layout import Layout, Raw, Seen
from streamdet.masks import Mask
from streamdet.types import F32, TilePlan

__all__ = ["Mixture", "draw_masks", "mixtures", "prototype_role"]


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """One row's ``coefficients`` (K,) and its tile's ``prototypes`` (K, h, w), shared by the tile's rows."""

    coefficients: F32
    prototypes: F32


def prototype_role(seen: Seen) -> tuple[dict[str, tuple[str, ...]], int]:
    """The part of the second output, and how many prototypes it holds; nothing and 0 if the file has none."""
    arrays = list(seen.sample.items())
    if len(arrays) != 2 or arrays[1][1].ndim != 4 or arrays[1][1].dtype.kind != "f":
        return {}, 0
    return {"prototypes": (arrays[1][0],)}, int(arrays[1][1].shape[1])


def mixtures(raw: Raw, layout: Layout, tile: NDArray[Any], coefficients: NDArray[Any]) -> NDArray[Any] | None:
    """(N,) of :class:`Mixture`; None for a file without masks. Prototypes are copied: `raw` does not live long."""
    if "prototypes" not in layout.roles:
        return None
    maps = raw[layout.roles["prototypes"][0]]
    kept = {number: maps[number].astype(np.float32) for number in np.unique(tile).tolist() if number < len(maps)}
    found = np.full(len(tile), None)
    for row, number in enumerate(tile.tolist()):
        if number in kept:
            found[row] = Mixture(coefficients[row].astype(np.float32), kept[number])
    return found


def draw_masks(mixed: NDArray[Any], xyxy: F32, tile: NDArray[Any], tiles: TilePlan) -> NDArray[Any]:
    """(N,) of :class:`Mask` in frame px for boxes `xyxy` in frame px."""
    width, height = tiles.input_wh
    found = np.full(len(mixed), None)
    for row, (mixture, box, number) in enumerate(zip(mixed, xyxy.astype(np.float64), tile.tolist())):
        if mixture is None:
            continue
        _, rows, columns = mixture.prototypes.shape
        per_px = tiles.scale[number].astype(np.float64) * (columns / width, rows / height)
        begin = tiles.xyxy[number, :2] - tiles.corner[number] / tiles.scale[number].astype(np.float64)
        found[row] = _draw(mixture, box, begin, per_px)
    return found


def _draw(mixture: Mixture, box: NDArray[Any], origin: NDArray[Any], per_px: NDArray[Any]) -> Mask:
    """`per_px`: prototype cells per frame px, `origin`: frame px at the prototypes' first corner."""
    low, high = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    size = np.maximum(high - low, 1)
    first = (low + 0.5 - origin) * per_px - 0.5  # where the first px lies among the cells
    last = first + (size - 1) * per_px
    cells = np.array(mixture.prototypes.shape[:0:-1])  # columns, rows
    begin = np.clip(np.floor(first).astype(int), 0, cells - 1)
    end = np.clip(np.ceil(last).astype(int) + 1, begin + 1, cells)
    part = mixture.prototypes[:, begin[1] : end[1], begin[0] : end[0]]
    logits = np.tensordot(mixture.coefficients, part, axes=1)
    where = np.array([[per_px[0], 0, first[0] - begin[0]], [0, per_px[1], first[1] - begin[1]]])
    enlarged = cv2.warpAffine(
        np.ascontiguousarray(logits, np.float32),
        where,
        (int(size[0]), int(size[1])),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return Mask.of(np.asarray(enlarged) > 0, (int(low[0]), int(low[1])))
