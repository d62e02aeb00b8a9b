"""What a network wants to be fed: the one sheet of paper between the packers (who make it) and the detectors (who know it).

Every input channel is named after what it shows and, for networks that look at several frames, how many frames back::

    ("r", "g", "b")                               one colour picture
    ("r", "g", "b", "difference", "previous_difference", "background_difference")   ... and what moved
    ("y[-8]", "y[-7]", ..., "y[0]")               nine grey pictures, oldest first

Colours and ``y`` are full-range grey levels 0..255 and reach the network as ``(value - mean) / std``. The three
differences are signed luma levels as `streamdet.types.Motion` gives them and reach it as
``clip(value / signed_scale, -signed_clip, signed_clip)``; mean and std do not touch them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamdet.errors import ModelError

__all__ = ["COLOURS", "DIFFERENCES", "Channel", "InputSpec"]

COLOURS = ("r", "g", "b", "y")
DIFFERENCES = ("difference", "previous_difference", "background_difference")

_CHANNEL = re.compile(r"([a-z_]+)(?:\[(0|-\d{1,3})\])?")


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel: what it shows, and how many frames back (0 or negative)."""

    what: str
    offset: int = 0

    @property
    def signed(self) -> bool:
        return self.what in DIFFERENCES

    @staticmethod
    @functools.cache
    def parse(text: str) -> Channel:
        """Read ``"r"``, ``"y[-8]"``, ``"difference"``. Raises ModelError."""
        match = _CHANNEL.fullmatch(text)
        if match is None or match[1] not in COLOURS + DIFFERENCES:
            raise ModelError(
                f"input channel '{text}' is unknown; use {', '.join(COLOURS + DIFFERENCES)}, "
                "a colour optionally followed by a frame offset such as [-2]"
            )
        channel = Channel(match[1], int(match[2] or 0))
        if channel.signed and channel.offset:
            raise ModelError(
                f"input channel '{text}': only colours of earlier frames exist, not differences; drop the offset"
            )
        return channel


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How the input tensor of a network looks.

    Attributes:
        wh: input px; None: any size that is a multiple of `stride` (fully convolutional).
        channels: names in order, see the module's text.
        mean, std: grey levels (0..255), one per channel or one for all; ignored for the signed channels.
        signed_scale, signed_clip: for the signed channels.
        pad_value: grey level of what a letterboxed tile does not cover (signed channels: 0).
        stretch: a tile fills the whole input, its aspect ratio be what it may (else letterboxed, top-left).
        layout, dtype: of the tensor. uint8 is rounded and saturated.
        signed_zero: of a uint8 tensor with signed channels: these hold grey levels, and this one means no difference (128).
        batch: fixed batch size of the file, None if any number of tiles may be fed at once.
        stride: a size chosen by us must be a multiple of it.

    Raises:
        ModelError: values that contradict each other.
    """

    wh: tuple[int, int] | None = None
    channels: tuple[str, ...] = ("r", "g", "b")
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    signed_scale: float = 64.0
    signed_clip: float = 2.0
    pad_value: float = 114.0
    stretch: bool = False
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    batch: int | None = None
    stride: int = 32
    signed_zero: int = 0

    def __post_init__(self) -> None:
        if not self.channels:
            raise ModelError("a network input needs at least one channel")
        signed = [channel.signed for channel in self.parsed]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, len(self.channels)):
                raise ModelError(
                    f"{name} has {len(values)} values for {len(self.channels)} channels; give one, or one each"
                )
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(self.std)) or 0 in self.std:
            raise ModelError(f"mean {self.mean} and std {self.std} must be finite and std not 0")
        if self.signed_scale <= 0 or self.signed_clip <= 0:
            raise ModelError(f"signed_scale {self.signed_scale} and signed_clip {self.signed_clip} must be above 0")
        held = self.signed_zero == 128 and self.signed_scale * self.signed_clip <= 128
        if self.dtype == "uint8" and any(signed) and not held:
            raise ModelError("a uint8 input cannot hold signed difference channels; use float32 or float16")
        if self.wh is not None and min(self.wh) < 1:
            raise ModelError(f"input size {self.wh[0]}x{self.wh[1]} is not a picture")
        if self.stride < 1 or (self.batch is not None and self.batch < 1):
            raise ModelError(f"stride {self.stride} and batch {self.batch} must be at least 1")

    @property
    def parsed(self) -> tuple[Channel, ...]:
        """The channels, read."""
        return tuple(Channel.parse(text) for text in self.channels)

    @property
    def history(self) -> int:
        """How many earlier frames are needed (0: only the present one)."""
        return -min(channel.offset for channel in self.parsed)

    @property
    def shows_motion(self) -> bool:
        """Whether the network sees what moves: differences, or earlier frames."""
        return any(channel.signed or channel.offset for channel in self.parsed)

    def affine(self, index: int) -> tuple[float, float]:
        """(gain, offset) of channel `index`: the network gets ``gain * value + offset`` (signed ones: then clipped)."""
        if self.parsed[index].signed:
            return 1.0 / self.signed_scale, 0.0
        mean = self.mean[index if len(self.mean) > 1 else 0]
        std = self.std[index if len(self.std) > 1 else 0]
        return 1.0 / std, -mean / std

    def shape(self, tiles: int, input_wh: tuple[int, int]) -> tuple[int, int, int, int]:
        """Shape of the tensor for `tiles` tiles of `input_wh`."""
        width, height = input_wh
        if self.layout == "nhwc":
            return tiles, height, width, len(self.channels)
        return tiles, len(self.channels), height, width
