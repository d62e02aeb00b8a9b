"""Pixels as users hand them over -> 8-bit BGR: grey, transparency, 16 bits."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.errors import UsageError
from streamdet.types import U8

__all__ = ["check_pixels", "largest_level", "to_eight_bits"]


def check_pixels(array: NDArray[Any]) -> None:
    """Raises UsageError for what is no picture: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; bool, u8 or u16."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise UsageError(f"an array of shape {array.shape} is no picture; give (H, W), (H, W, 3) BGR or (H, W, 4) BGRA")
    if array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise UsageError(
            f"an array of {array.dtype} is no picture; give uint8 (or uint16), e.g. (255 * picture).astype('uint8')"
        )


def largest_level(array: NDArray[Any]) -> int | None:
    """The largest value of a 16-bit array, None for 8 bits: what `to_eight_bits` wants to know of the *whole* picture."""
    return int(array.max()) if array.dtype == np.uint16 else None


def to_eight_bits(array: NDArray[Any], *, largest: int | None = None, rgb: bool = False) -> U8:
    """(H, W, 3) u8 BGR, contiguous. Transparency is dropped, grey spread; `rgb`: red comes first in `array`.

    16 bits: cameras and sensors deliver 10, 12 or 14 of them, so the bits that the `largest` value of the picture needs (at
    least 8) become 8. True is 255.
    """
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        bits = max(8, (int(array.max()) if largest is None else largest).bit_length())
        array = (array >> (bits - 8)).astype(np.uint8)
    channels = array.shape[2] if array.ndim == 3 else 1
    array = np.ascontiguousarray(array)
    if channels == 1:
        return np.asarray(cv2.cvtColor(array.reshape(array.shape[:2]), cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 4:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGBA2BGR if rgb else cv2.COLOR_BGRA2BGR), np.uint8)
    return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if rgb else array, np.uint8)
