"""Resampling one plane of one tile: where an output pixel looks, and how. CUDA copies must follow this to the letter.

Pixel centres: output pixel ``i`` lies at ``c = (i + 0.5) / scale`` px from the tile's left (top) edge. A plane whose crop
begins `shift` plane px left of the tile's edge is read there at ``c + shift``, so between the samples
``floor(c + shift - 0.5)`` and the next one, each clamped to the crop (taps never leave the tile's own rectangle).

- *bilinear* unless the plane is shrunk to less than half;
- *area* (mean over the output pixel's footprint, fractional at its edges) when both axes shrink and one of them to less
  than half, which keeps what is small from falling between samples.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.types import F32

__all__ = ["FLOAT_PX", "by_area", "float_crop", "same_size", "sample"]

FLOAT_PX = 1 << 20
"""Crops of at most this many px are resampled in float (exact); larger ones in 8 bits, so no large float copy exists."""

_SAME = 1e-3  # output px: sizes that differ by less are the same size


def by_area(scale_xy: tuple[float, float]) -> bool:
    """Whether a plane scaled so is averaged rather than interpolated."""
    return max(scale_xy) < 1 and min(scale_xy) < 0.5


def same_size(crop: NDArray[Any], size: tuple[int, int], scale_xy: tuple[float, float]) -> bool:
    """Whether `crop` so scaled fills `size` (width, height) and no edge falls between samples."""
    have = crop.shape[1], crop.shape[0]
    return all(abs(have[i] * scale_xy[i] - size[i]) < _SAME for i in (0, 1))


def float_crop(crop: NDArray[Any], scale_xy: tuple[float, float]) -> NDArray[Any]:
    """`crop` (u8, any strides) as something `sample` takes: contiguous f32, or contiguous u8 where it is too large."""
    if crop.shape[0] * crop.shape[1] > FLOAT_PX and scale_xy != (1.0, 1.0):
        return np.ascontiguousarray(crop)
    return np.ascontiguousarray(crop, dtype=np.float32)


def sample(
    crop: NDArray[Any],
    out: F32,
    *,
    scale_xy: tuple[float, float],
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Resample `crop` (h,w) or (h,w,3), f32 or u8, contiguous, into `out` (oh,ow[,3]) f32.

    `scale_xy`: output px per crop px. `shift_xy`: where in the crop the output's left and top edges lie, in crop px.
    """
    size = out.shape[1], out.shape[0]
    have = crop.shape[1], crop.shape[0]
    if shift_xy == (0.0, 0.0) and same_size(crop, size, scale_xy):
        if have == size:
            np.copyto(out, crop)
        else:
            _resize(crop, out, by_area(scale_xy))
    elif scale_xy == (2.0, 2.0) and all(shift in (0.0, 0.5) for shift in shift_xy):
        doubled = cv2.resize(crop, (have[0] * 2, have[1] * 2), interpolation=cv2.INTER_LINEAR)
        x, y = (int(shift * 2) for shift in shift_xy)
        np.copyto(out, doubled[y : y + size[1], x : x + size[0]])
    else:
        mode = by_area(scale_xy)
        across = _weights(have[0], size[0], scale_xy[0], shift_xy[0], mode)
        down = _weights(have[1], size[1], scale_xy[1], shift_xy[1], mode)
        np.matmul(down @ crop.astype(np.float32, copy=False), across.T, out=out)


def _resize(crop: NDArray[Any], out: F32, area: bool) -> None:
    method = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    size = out.shape[1], out.shape[0]
    if crop.dtype == np.float32:
        cv2.resize(crop, size, dst=out, interpolation=method)
    else:
        np.copyto(out, cv2.resize(crop, size, interpolation=method))


@functools.lru_cache(maxsize=16)
def _weights(have: int, want: int, scale: float, shift: float, area: bool) -> F32:
    """(want, have) f32: one axis of `sample` as a matrix, for the few crops whose edges fall between samples."""
    rows = np.arange(want)
    if area:
        edges = np.clip(np.arange(want + 1) / scale + shift, 0, have)
        cell = np.arange(have)
        covered = np.minimum(edges[1:, None], cell + 1) - np.maximum(edges[:-1, None], cell)
        covered = np.maximum(covered, 0)
        return np.asarray(covered / covered.sum(1, keepdims=True), np.float32)
    position = (rows + 0.5) / scale + shift - 0.5
    first = np.floor(position).astype(np.int64)
    part = position - first
    matrix = np.zeros((want, have))
    np.add.at(matrix, (rows, np.clip(first, 0, have - 1)), 1 - part)
    np.add.at(matrix, (rows, np.clip(first + 1, 0, have - 1)), part)
    return matrix.astype(np.float32)
