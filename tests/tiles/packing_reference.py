"""The packing definition once more: float64, one formula after the other, slow and obvious. Shares no code with the packer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# Written out, ITU-R BT.601/709/2020: (r from V, g from U, g from V, b from U) for full-range values.
COEFFICIENTS = {
    "bt601": (1.402, -0.344136, -0.714136, 1.772),
    "bt709": (1.5748, -0.187324, -0.468124, 1.8556),
    "bt2020": (1.4746, -0.164553, -0.571353, 1.8814),
}


def weights(have: int, want: int, scale: float, start: float, area: bool) -> F64:
    """(want, have): what each of `have` samples gives to each output px. `start`: where the output's edge lies."""
    matrix = np.zeros((want, have))
    for i in range(want):
        if area:
            left = min(max(i / scale + start, 0), have)
            right = min(max((i + 1) / scale + start, 0), have)
            for j in range(have):
                matrix[i, j] = max(0.0, min(right, j + 1) - max(left, j))
            matrix[i] /= matrix[i].sum()
        else:
            position = (i + 0.5) / scale + start - 0.5
            low = int(np.floor(position))
            matrix[i, min(max(low, 0), have - 1)] += 1 - (position - low)
            matrix[i, min(max(low + 1, 0), have - 1)] += position - low
    return matrix


def sampled(
    crop: NDArray[Any], want_wh: tuple[int, int], scale: tuple[float, float], start: tuple[float, float]
) -> F64:
    area = max(scale) < 1 and min(scale) < 0.5
    down = weights(crop.shape[0], want_wh[1], scale[1], start[1], area)
    across = weights(crop.shape[1], want_wh[0], scale[0], start[0], area)
    return down @ crop.astype(np.float64) @ across.T


def colour(picture: Any, box: tuple[int, int, int, int], want_wh: tuple[int, int], what: str) -> F64:
    """One full-range colour of one tile, grey levels."""
    x1, y1, x2, y2 = box
    scale = want_wh[0] / (x2 - x1), want_wh[1] / (y2 - y1)
    luma = sampled(picture.luma[y1:y2, x1:x2], want_wh, scale, (0, 0))
    if picture.chroma is None:
        if what == "y":
            return luma
        return sampled(picture.bgr[y1:y2, x1:x2, "bgr".index(what)], want_wh, scale, (0, 0))
    u, v = (
        sampled(
            plane[y1 // 2 : -(-y2 // 2), x1 // 2 : -(-x2 // 2)],
            want_wh,
            (scale[0] * 2, scale[1] * 2),
            (x1 / 2 - x1 // 2, y1 / 2 - y1 // 2),
        )
        - 128
        for plane in picture.chroma
    )
    if not picture.full_range:
        luma, u, v = (luma - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    rv, gu, gv, bu = COEFFICIENTS[picture.matrix]
    value = {"y": luma, "r": luma + rv * v, "g": luma + gu * u + gv * v, "b": luma + bu * u}[what]
    return np.clip(value, 0, 255)


def packed(spec: Any, pictures: list[Any], motion: Any, tiles: Any) -> F64:
    """(T, C, h, w). `pictures`: oldest first, the present one last."""
    width, height = tiles.input_wh
    out = np.zeros((len(tiles), len(spec.channels), height, width))
    for t, (box, tile_scale) in enumerate(zip(tiles.xyxy.tolist(), tiles.scale.tolist())):
        x1, y1, x2, y2 = box
        w, h = max(1, round((x2 - x1) * tile_scale[0])), max(1, round((y2 - y1) * tile_scale[1]))
        for c, name in enumerate(spec.channels):
            what, _, rest = name.partition("[")
            mean = spec.mean[c if len(spec.mean) > 1 else 0]
            std = spec.std[c if len(spec.std) > 1 else 0]
            if "difference" in what:
                now, then = {
                    "difference": (motion.luma, motion.previous),
                    "previous_difference": (motion.previous, motion.before_previous),
                    "background_difference": (motion.luma, motion.background),
                }[what]
                if now is None or then is None:
                    continue
                levels = now[y1:y2, x1:x2].astype(np.float64) - then[y1:y2, x1:x2]
                value = sampled(levels, (w, h), (w / (x2 - x1), h / (y2 - y1)), (0, 0))
                out[t, c, :h, :w] = np.clip(value / spec.signed_scale, -spec.signed_clip, spec.signed_clip)
                continue
            picture = pictures[max(0, len(pictures) - 1 + int(rest.rstrip("]") or 0))]
            out[t, c] = (spec.pad_value - mean) / std
            out[t, c, :h, :w] = (colour(picture, (x1, y1, x2, y2), (w, h), what) - mean) / std
    return out
