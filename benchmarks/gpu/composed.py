"""The rival of the fused kernel: the same job composed of CuPy or torch operations, as anybody would write it.

NV12 -> RGB over the whole frame, the difference to the frame before, crops of all tiles, normalised, stacked to one fp16 batch.
Tiles are not scaled here (the most favourable case for the composition).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["composed"]

Boxes = list[tuple[int, int, int, int]]


def composed(library: str, nv12: Any, previous: Any, wh: tuple[int, int], boxes: Boxes) -> Callable[[], Any]:
    """A function that makes the (T, 4, h, w) fp16 batch of r, g, b, difference from (H * 3 / 2, W) u8 arrays on the host.

    `library`: "torch" or "cupy". Raises ImportError. BT.709, limited range; mean 0, std 255, difference / 64 clipped to 2.
    """
    return _torch(nv12, previous, wh, boxes) if library == "torch" else _cupy(nv12, previous, wh, boxes)


def _torch(nv12: Any, previous: Any, wh: tuple[int, int], boxes: Boxes) -> Callable[[], Any]:
    import torch

    width, height = wh
    now, then = (torch.from_numpy(np.ascontiguousarray(each)).cuda() for each in (nv12, previous))

    def make() -> Any:
        luma = (now[:height].float() - 16) * (255 / 219)
        chroma = now[height:].reshape(height // 2, width // 2, 2).permute(2, 0, 1)[None].float() - 128
        u, v = torch.nn.functional.interpolate(chroma, size=(height, width), mode="bilinear", align_corners=False)[0]
        red = luma + 1.792741 * v
        green = luma - 0.213249 * u - 0.532909 * v
        blue = luma + 2.112402 * u
        rgb = torch.stack([red, green, blue]).clamp(0, 255) / 255
        moved = ((now[:height].short() - then[:height].short()).float() / 64).clamp(-2, 2)
        whole = torch.cat([rgb, moved[None]]).half()
        return torch.stack([whole[:, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])

    return make


def _cupy(nv12: Any, previous: Any, wh: tuple[int, int], boxes: Boxes) -> Callable[[], Any]:
    import cupy
    from cupyx.scipy import ndimage

    width, height = wh
    now, then = cupy.asarray(nv12), cupy.asarray(previous)

    def make() -> Any:
        luma = (now[:height].astype(cupy.float32) - 16) * (255 / 219)
        chroma = now[height:].reshape(height // 2, width // 2, 2).astype(cupy.float32) - 128
        u, v = (ndimage.zoom(chroma[..., k], 2, order=1, grid_mode=True, mode="nearest") for k in (0, 1))
        rgb = cupy.stack([luma + 1.792741 * v, luma - 0.213249 * u - 0.532909 * v, luma + 2.112402 * u])
        rgb = rgb.clip(0, 255) / 255
        moved = ((now[:height].astype(cupy.int16) - then[:height]).astype(cupy.float32) / 64).clip(-2, 2)
        whole = cupy.concatenate([rgb, moved[None]]).astype(cupy.float16)
        return cupy.stack([whole[:, y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])

    return make
