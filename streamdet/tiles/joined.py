"""Looking at all of a frame with a *local* network (see `streamdet.detectors.local`): few larger inputs instead of many tiles.

What lies in two tiles is looked at once, and larger things are seen whole. The inputs are of one size, so that they go in
together, and no larger than caches and memory bear; there is an even number of them, for they run side by side on several cores,
and one input hardly splits.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from streamdet.config import TilesConfig
from streamdet.tiles.plan import ONE_TILE_PX, SMALL_TILE, grid, overlap_px, plan_tiles, wanted
from streamdet.types import WHY_ALL, TilePlan

__all__ = ["JOINED_PX", "WORTH_JOINING", "plan_everywhere"]

JOINED_PX = 1280 * 1024  # no input is larger
WORTH_JOINING = 0.9  # the area of all of them is at most this share of the usual tiles'
MOST_CUTS = 64  # columns or rows
ODD, NARROW, LARGE = 0.6, 0.02, 0.07  # what costs: see _cost

Size = tuple[int, int]


def plan_everywhere(frame_wh: Size, *, input_wh: Size | None, config: TilesConfig, stride: int = 32) -> TilePlan:
    """Like :func:`streamdet.tiles.plan.plan_tiles`, which it is where joining is no less work or was not asked for.

    Only with ``tile`` "auto"; at the same scale, with as many px of overlap as the usual tiles (any-size networks: small ones).
    """
    usual = plan_tiles(frame_wh, input_wh=input_wh, config=config, stride=stride)
    if str(config.tile).strip().lower() != "auto" or config.whole_frame:
        return usual
    if len(usual) == 1 and (input_wh is not None or frame_wh[0] * frame_wh[1] <= ONE_TILE_PX):
        return usual
    scale = usual.scale[0].tolist() if input_wh is not None else [1.0, 1.0]
    side = usual.xyxy[0, 2:] - usual.xyxy[0, :2] if input_wh is not None else np.array([SMALL_TILE, SMALL_TILE])
    shares = [2 * math.ceil(overlap_px(config.overlap, px) / 2) for px in side.tolist()]  # even, as origins are
    most = [min(math.ceil(frame_wh[i] / max(1, side[i] - shares[i])), MOST_CUTS) for i in (0, 1)]
    network = _input(frame_wh, scale, shares, most, stride)
    if network is None:
        return usual
    tile = tuple(min(frame_wh[i], _even(network[i] / scale[i])) for i in (0, 1))
    xyxy = grid(frame_wh, (tile[0], tile[1]), (tile[0], tile[1]), (float(shares[0]), float(shares[1])))
    xyxy = xyxy[wanted(xyxy, frame_wh, config)]
    exact = [min(network[i], round(tile[i] * scale[i])) / tile[i] for i in (0, 1)]
    scales = np.tile(np.array(exact, np.float32), (len(xyxy), 1))
    joined = TilePlan(frame_wh, network, xyxy, scales, np.full(len(xyxy), WHY_ALL, np.uint8), len(xyxy))
    one = usual.slots == 1 and network != usual.input_wh
    return joined if one or _px(joined) <= WORTH_JOINING * _px(usual) else usual


def _input(frame_wh: Size, scale: list[float], shares: list[int], most: list[int], stride: int) -> Size | None:
    """The cheapest input size that covers the frame in up to `most` columns and rows; None: none is small enough."""
    choices = []
    for counts in itertools.product(*(range(1, max(1, number) + 1) for number in most)):
        least = [math.ceil((frame_wh[i] + (counts[i] - 1) * shares[i]) / counts[i]) for i in (0, 1)]
        width, height = (math.ceil(round(least[i] * scale[i], 3) / stride) * stride for i in (0, 1))
        if width * height <= JOINED_PX:
            choices.append((_cost(width, height, counts[0] * counts[1]), (width, height)))
    return min(choices)[1] if choices else None


def _cost(width: int, height: int, count: int) -> float:
    """In pixels: an odd input leaves cores idle, a long one cuts more, a pixel of a large one takes longer."""
    odd = ODD / count if count % 2 else 0.0
    return width * height * count * (1 + odd + NARROW * abs(math.log2(width / height)) + LARGE * width * height / 2**20)


def _px(plan: TilePlan) -> int:
    return plan.slots * plan.input_wh[0] * plan.input_wh[1]


def _even(value: float) -> int:
    return max(1, int(value) // 2 * 2)
