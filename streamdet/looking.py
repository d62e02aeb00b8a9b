"""Where a line looks and what packs it: scheduler, packer and, with `--upscale`, the second look."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from streamdet.config import Config
from streamdet.gpu import device_of, gpu_packer
from streamdet.inputspec import InputSpec
from streamdet.protocols import Detector, Memory, Packer, Scheduler
from streamdet.types import F32, TilePlan

__all__ = ["Look", "everywhere_plan", "make_look"]

_LOG = logging.getLogger(__name__)

MakePlan = Callable[[tuple[int, int]], TilePlan]
Look = tuple[Scheduler, Packer, Callable[[TilePlan, F32], TilePlan] | None, Memory | None]


def make_look(config: Config, detector: Detector, frame_wh: tuple[int, int] | None, *, live: bool, still: bool) -> Look:
    from streamdet.tiles.plan import plan_tiles

    spec = detector.input
    if spec is None:
        from streamdet.tiles.none import NoPacker, NoScheduler

        plan_tiles(
            frame_wh or (1920, 1080), input_wh=None, config=config.tiles
        )  # not used, but not to be nonsense either
        return NoScheduler(), NoPacker(), None, None
    from streamdet.tiles.schedule import TileScheduler
    from streamdet.upscaling import upscaling

    make_plan: MakePlan = functools.partial(
        plan_tiles, input_wh=spec.wh, config=config.tiles, stretch=spec.stretch, stride=spec.stride
    )
    closer = None if live else upscaling(config.tiles, spec)
    look_all = config.tiles.look == "all"
    one_cost = closer is not None or (
        live and not look_all
    )  # inputs of other sizes cost what a budget would not foresee
    everywhere = None if one_cost else everywhere_plan(config, detector, many_sizes=still)
    if everywhere is not None and (still or look_all):
        make_plan, everywhere = everywhere, None
    plan = make_plan(frame_wh) if frame_wh is not None else None
    if live and config.tiles.upscale is not None:
        _LOG.warning("tiles.upscale is for files and stills: a live stream is looked at once")
    if closer is not None:
        return TileScheduler(config.tiles, make_plan=make_plan), closer.packer(), closer.finer, None
    if still:  # it may be read in windows, which only the packer on the host can
        from streamdet.tiles.pack_cpu import CpuPacker

        return TileScheduler(config.tiles, make_plan=make_plan), CpuPacker(spec), None, None
    packer = _make_packer(config, detector, spec, plan.input_wh if plan else None)
    movers = any(channel.signed or channel.offset for channel in spec.parsed)
    # a stretched input is a whole view; a network of movers needs so much of the surroundings that a collage saves little
    fitting = not spec.stretch and not movers if config.tiles.collage == "auto" else config.tiles.collage == "on"
    scheduler = TileScheduler(
        config.tiles,
        make_plan=make_plan,
        make_everywhere=everywhere,
        collages=fitting and packer.collages,
        movers=movers,
    )
    return scheduler, packer, None, None if movers or look_all else scheduler


def everywhere_plan(config: Config, detector: Detector, *, many_sizes: bool) -> MakePlan | None:
    """What plans looks at all of a frame with fewer, larger inputs than usual; None if `detector` (entered) does not bear them.

    `many_sizes`: pictures of any size may come, one after the other, and the inputs' size hangs on theirs.
    Asked of the network only where it may be of use: the first time that takes some inferences.
    """
    from streamdet.tiles.joined import plan_everywhere

    spec, tiles = detector.input, config.tiles
    if spec is None or spec.stretch or str(tiles.tile).lower() != "auto" or tiles.whole_frame:
        return None
    if not (detector.many_sizes if many_sizes else detector.local):
        return None
    return functools.partial(plan_everywhere, input_wh=spec.wh, config=tiles, stride=spec.stride)


def _make_packer(config: Config, detector: Detector, spec: InputSpec, input_wh: tuple[int, int] | None) -> Packer:
    if device_of(config) != "cpu":
        from streamdet.detectors.device_detector import DeviceDetector

        if isinstance(detector, DeviceDetector):
            if input_wh is not None:
                detector.bind(input_wh)
            return gpu_packer(detector)
    from streamdet.tiles.pack_cpu import CpuPacker

    return CpuPacker(spec)
