"""Magnified looks: tiles of a half (or a quarter) of the size round what is small, and how their pixels are made.

`finer_tiles` says where; `UpscalingPacker` makes the input of every magnified tile (scale from `MAGNIFIED`) by an upscaler, and
leaves all other tiles to the definition in `pack_cpu`. Its own definition: the tile packed at scale 1, its colours brought back
to grey levels, upscaled to the tile's size in the input; differences are upscaled by bicubic interpolation in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import coarse_rows
from streamdet.types import F32, WHY_SMALL, Frame, Motion, TileBatch, TilePlan

__all__ = ["MAGNIFIED", "Upscaler", "UpscalingPacker", "bicubic", "finer_tiles", "small_regions"]

MAGNIFIED = 1.25
_OVERLAP = 0.25
_MOST = 4000  # finer tiles for one frame

Upscaler = Callable[[F32, tuple[int, int]], F32]
"""(C,h,w) f32 grey levels and (width, height) -> (C,height,width) f32."""


def bicubic(planes: F32, wh: tuple[int, int]) -> F32:
    return np.stack([cv2.resize(plane, wh, interpolation=cv2.INTER_CUBIC) for plane in planes])


def small_regions(xyxy: F32, plan: TilePlan, below_px: float) -> F32:
    """Those of (N,4) frame boxes whose longer side is below `below_px` in the network's input, where finer tiles look."""
    fine = plan[~coarse_rows(plan)]
    if not len(fine) or not len(xyxy):
        return xyxy[:0]
    side = (xyxy[:, 2:] - xyxy[:, :2]).max(1) * fine.scale[0].max()
    return np.asarray(xyxy[side < below_px], np.float32)


def finer_tiles(plan: TilePlan, regions: F32, factor: int) -> TilePlan:
    """Tiles of the plan's size divided by `factor`, each region (N,4) whole and central in one; in reading order.

    None (an empty plan) where the plan is magnified as far already, or has no tiles.
    """
    fine = plan[~coarse_rows(plan)]
    if not len(regions) or not len(fine):
        return plan[:0]
    tile = fine.xyxy[0, 2:] - fine.xyxy[0, :2]
    size = np.minimum(np.maximum(16, -(-tile // factor) // 2 * 2), tile)
    if (size >= tile).all():
        return plan[:0]
    room = np.array(plan.frame_wh) - size
    step = np.maximum(1, (size * (1 - _OVERLAP)).astype(np.int64))
    centre = (regions[:, :2] + regions[:, 2:]) / 2
    cell = np.round((centre - size / 2) / step).astype(np.int64)
    origin = np.unique(np.clip(cell * step, 0, np.maximum(room, 0)), axis=0)
    origin = origin[np.lexsort((origin[:, 0], origin[:, 1]))][:_MOST]
    xyxy = np.concatenate([origin, origin + size], 1).astype(np.int32)
    out = np.minimum(np.round(size * fine.scale[0] * factor), plan.input_wh)
    scale = np.tile((out / size).astype(np.float32), (len(xyxy), 1))
    return TilePlan(plan.frame_wh, plan.input_wh, xyxy, scale, np.full(len(xyxy), WHY_SMALL, np.uint8), plan.of)


class UpscalingPacker:
    """A Packer whose magnified tiles go through an upscaler. As for `CpuPacker`, call it for every frame."""

    collages = False

    def __init__(self, spec: InputSpec, upscaler: Upscaler) -> None:
        self.spec = spec
        self._plain = CpuPacker(spec)
        self._native = CpuPacker(replace(spec, wh=None, dtype="float32", layout="nchw"))
        self._upscaler = upscaler
        channels = spec.parsed
        self._affine = [spec.affine(index) for index in range(len(channels))]
        self._colours = [index for index, channel in enumerate(channels) if not channel.signed]

    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        magnified = np.flatnonzero((tiles.scale >= MAGNIFIED).all(1))
        batch = self._plain(frame, motion, tiles)
        self._native(
            frame, motion, replace(tiles[:0], input_wh=(16, 16))
        )  # the past, also of frames without such tiles
        for row in magnified.tolist():
            self._write(batch.data[row], frame, motion, tiles[row : row + 1])
        return batch

    def _write(self, out: NDArray[Any], frame: Frame, motion: Motion, tile: TilePlan) -> None:
        """Overwrite the covered part of one tile of the batch; its padding stays."""
        x1, y1, x2, y2 = tile.xyxy[0].tolist()
        wh = max(1, round((x2 - x1) * float(tile.scale[0, 0]))), max(1, round((y2 - y1) * float(tile.scale[0, 1])))
        native = replace(tile, input_wh=(x2 - x1, y2 - y1), scale=np.ones((1, 2), np.float32))
        planes: F32 = self._native(frame, motion, native).data[0].copy()
        larger = np.empty((len(planes), wh[1], wh[0]), np.float32)
        signed = [index for index in range(len(planes)) if index not in self._colours]
        if signed:
            larger[signed] = bicubic(planes[signed], wh)
        if self._colours:
            gain, offset = (
                np.array([self._affine[i][k] for i in self._colours], np.float32)[:, None, None] for k in (0, 1)
            )
            levels = self._upscaler((planes[self._colours] - offset) / gain, wh)
            larger[self._colours] = np.clip(levels, 0, 255) * gain + offset
        if self.spec.dtype == "uint8":
            larger[signed] = larger[signed] * np.float32(self.spec.signed_scale) + 128
            larger = np.rint(larger).clip(0, 255)
        if self.spec.layout == "nhwc":
            out[: wh[1], : wh[0]] = larger.transpose(1, 2, 0)
        else:
            out[:, : wh[1], : wh[0]] = larger
