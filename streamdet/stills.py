"""The parts that look at pictures on their own: those of a Line, without what needs time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from streamdet.assemble import find_model, looks_at_motion, make_detector
from streamdet.config import Config
from streamdet.errors import UsageError
from streamdet.looking import everywhere_plan
from streamdet.protocols import Detector, Merger, Packer
from streamdet.types import F32, U8, Bool, Result, TilePlan

__all__ = ["StillParts", "detector_of_stills", "still_parts"]


@dataclass(frozen=True, slots=True)
class StillParts:
    """What looks at pictures, ready made for one detector."""

    plan: Callable[[tuple[int, int]], TilePlan]
    packer: Callable[[], Packer]
    finer: Callable[[TilePlan, F32], TilePlan] | None
    merger: Merger
    keep: Callable[[tuple[int, int], F32], Bool | None]
    painter: Callable[[], Callable[[Result], U8]]


def detector_of_stills(config: Config) -> Detector:
    """The detector, not entered yet. Raises UsageError where there is none for stills, other StreamdetErrors."""
    if find_model(config.model.name) is None:
        raise UsageError("`motion` finds only what moves, in a still nothing does; give a network: model='FILE.onnx'")
    return make_detector(config)


def still_parts(config: Config, detector: Detector) -> StillParts:
    """`detector`: entered. Raises UsageError for a network that looks at what moves."""
    from streamdet.draw import Painter
    from streamdet.merge import Merger
    from streamdet.tiles.pack_cpu import CpuPacker
    from streamdet.tiles.plan import keep_mask, plan_tiles
    from streamdet.upscaling import upscaling

    spec = detector.input
    if spec is None or looks_at_motion(detector):
        name = "the embedded model" if config.model.name == "auto" else f"the model '{config.model.name}'"
        raise UsageError(
            f"{name} looks at what moves, in a still nothing does; give a network for pictures, as in model='yolox.onnx'"
        )
    closer = upscaling(config.tiles, spec)
    plan = functools.partial(
        plan_tiles, input_wh=spec.wh, config=config.tiles, stretch=spec.stretch, stride=spec.stride
    )
    return StillParts(
        plan=plan if closer is not None else everywhere_plan(config, detector, many_sizes=True) or plan,
        packer=(lambda: CpuPacker(spec)) if closer is None else closer.packer,
        finer=closer.finer if closer else None,
        merger=Merger(config.merge),
        keep=lambda frame_wh, xyxy: keep_mask(frame_wh, config.tiles, xyxy),
        painter=lambda: Painter(config.draw, labels=detector.labels),
    )
