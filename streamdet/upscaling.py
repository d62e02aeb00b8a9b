"""`--upscale`: which upscaler, and the parts that look again where something is small."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streamdet.config import TilesConfig
from streamdet.errors import ConfigError, ModelError
from streamdet.inputspec import InputSpec
from streamdet.protocols import Packer
from streamdet.tiles.upscale import Upscaler, UpscalingPacker, bicubic, finer_tiles, small_regions
from streamdet.types import F32, TilePlan

__all__ = ["Upscaling", "upscaling"]

_LARGEST = 4


@dataclass(frozen=True, slots=True)
class Upscaling:
    """``packer`` makes a Packer; ``finer`` the tiles to look at again, given those that were run and boxes in the frame."""

    packer: Callable[[], Packer]
    finer: Callable[[TilePlan, F32], TilePlan]


def upscaling(config: TilesConfig, spec: InputSpec) -> Upscaling | None:
    """None where nothing was asked for. Raises ConfigError, ModelError."""
    if config.upscale is None:
        return None
    upscaler, factor = _upscaler(str(config.upscale))

    def finer(plan: TilePlan, xyxy: F32) -> TilePlan:
        return finer_tiles(plan, small_regions(xyxy, plan, config.upscale_below_px), factor)

    return Upscaling(functools.partial(UpscalingPacker, spec, upscaler), finer)


def _upscaler(text: str) -> tuple[Upscaler, int]:
    if text.isdecimal():
        if not 2 <= int(text) <= _LARGEST:
            raise ConfigError(f"tiles.upscale is {text}; use 2 to {_LARGEST} (bicubic), or a super-resolution .onnx")
        return bicubic, int(text)
    path = Path(os.path.expanduser(text))
    if not path.is_file():
        raise ModelError(f"the upscaler {text} does not exist; give 2, 4, or the path of a super-resolution .onnx")
    from streamdet.detectors.onnxruntime_upscale import OnnxUpscaler

    network = OnnxUpscaler(path)
    return network, max(2, min(_LARGEST, network.factor))
