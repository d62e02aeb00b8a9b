"""As few tiles as show every region whole: greedy set cover over boxes, vectorised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.types import Bool

__all__ = ["cover", "cut", "hulls", "own_slack_px", "shown", "slack_px"]

F32 = NDArray[np.float32]


def cover(tiles_xyxy: Any, regions_xyxy: Any, *, frame_wh: tuple[int, int], margin_px: float) -> tuple[Bool, Bool]:
    """Choose tiles for regions.

    A region is *whole* in a tile that holds it with `margin_px` to spare (the frame's border needs none); if no tile can
    spare so much, in the tile that spares most. One that fits in no tile (it is larger, or lies across a seam wider than
    the overlap) takes every tile of the columns and rows it needs.

    Returns:
        (T,) which tiles to run, and (R, T) which of those would show (part of) which region.
    """
    tiles = np.asarray(tiles_xyxy, np.float32).reshape(-1, 4)
    regions = np.asarray(regions_xyxy, np.float32).reshape(-1, 4)
    slack_x, slack_y = (_slack(tiles, regions, axis, frame_wh[axis]) for axis in (0, 1))
    slack = np.minimum(slack_x, slack_y)
    best = slack.max(1, initial=-np.inf, keepdims=True)
    fits = best[:, 0] >= 0
    shows = (slack >= np.minimum(best, margin_px)) & fits[:, None]
    run = np.zeros(len(tiles), np.bool_)
    if not fits.all():
        across = _across(tiles, regions[~fits], slack_x[~fits], slack_y[~fits])
        shows[~fits] = across
        run |= across.any(0)
    alive = fits & ~shows[:, run].any(1)
    spare = np.where(shows, np.minimum(slack, 1e4), 0) / (1e4 * (len(regions) + 1))  # the more central one of two
    worth = shows + spare
    total = worth[alive].sum(0)
    left = int(alive.sum())
    while left:
        tile = int(total.argmax())
        run[tile] = True
        done = np.flatnonzero(shows[:, tile] & alive)
        alive[done] = False
        left -= len(done)
        total -= worth[done].sum(0)
    return run, shows & run


def shown(tiles_xyxy: Any, regions_xyxy: Any, *, frame_wh: tuple[int, int], margin_px: float) -> Bool:
    """(R,) which regions are whole in any of the tiles, with `margin_px` to spare (the frame's border needs none)."""
    tiles = np.asarray(tiles_xyxy, np.float32).reshape(-1, 4)
    regions = np.asarray(regions_xyxy, np.float32).reshape(-1, 4)
    return np.asarray((slack_px(tiles, regions, frame_wh) >= margin_px).any(1))


def slack_px(tiles_xyxy: Any, regions_xyxy: Any, frame_wh: tuple[int, int]) -> F32:
    """(R, T) px between each region and the nearest edge of each tile, the frame's own apart; below 0: it sticks out."""
    tiles = np.asarray(tiles_xyxy, np.float32).reshape(-1, 4)
    regions = np.asarray(regions_xyxy, np.float32).reshape(-1, 4)
    return np.minimum(*(_slack(tiles, regions, axis, frame_wh[axis]) for axis in (0, 1)))


def cut(tiles_xyxy: Any, regions_xyxy: Any) -> Bool:
    """(R,) which regions stick out of a tile that shows part of them."""
    tiles = np.asarray(tiles_xyxy, np.float32).reshape(-1, 4)
    regions = np.asarray(regions_xyxy, np.float32).reshape(-1, 4)[:, None]
    touches = (regions[..., :2] < tiles[:, 2:]) & (regions[..., 2:] > tiles[:, :2])
    holds = (regions[..., :2] >= tiles[:, :2]) & (regions[..., 2:] <= tiles[:, 2:])
    partly = np.asarray(touches.all(2) & ~holds.all(2), np.bool_)
    return np.asarray(partly.any(1), np.bool_)


def hulls(boxes_xyxy: Any, near_px: float) -> F32:
    """(H,4) hulls of boxes that lie within `near_px` of each other, and of these in turn, until all are further apart."""
    boxes = np.unique(np.asarray(boxes_xyxy, np.float32).reshape(-1, 4), axis=0)
    while len(boxes):
        close = (boxes[:, None, :2] <= boxes[:, 2:] + near_px) & (boxes[:, None, 2:] >= boxes[:, :2] - near_px)
        first = close.all(2).argmax(1)
        if (first == np.arange(len(boxes))).all():
            break
        low, high = boxes[:, :2].copy(), boxes[:, 2:].copy()
        np.minimum.at(low, first, boxes[:, :2])
        np.maximum.at(high, first, boxes[:, 2:])
        boxes = np.concatenate([low, high], 1)[np.unique(first)]
    return boxes


def own_slack_px(tiles_xyxy: Any, regions_xyxy: Any, frame_wh: tuple[int, int]) -> F32:
    """(R,) as :func:`slack_px`, of each region and the tile (R,4) of its row."""
    tiles = np.asarray(tiles_xyxy, np.float32).reshape(-1, 4)
    regions = np.asarray(regions_xyxy, np.float32).reshape(-1, 4)
    end = np.array(frame_wh, np.float32)
    low = np.where(tiles[:, :2] <= 0, np.inf, regions[:, :2] - tiles[:, :2])
    high = np.where(tiles[:, 2:] >= end, np.inf, tiles[:, 2:] - regions[:, 2:])
    return np.asarray(np.minimum(low, high).min(1, initial=np.inf), np.float32)


def _slack(tiles: F32, regions: F32, axis: int, length: int) -> F32:
    """(R, T) px between a region and the nearer of a tile's two edges across `axis`; below 0: it sticks out."""
    low = regions[:, axis, None] - tiles[:, axis]
    high = tiles[:, axis + 2] - regions[:, axis + 2, None]
    low[:, tiles[:, axis] <= 0] = np.inf  # nothing can stick out of the frame
    high[:, tiles[:, axis + 2] >= length] = np.inf
    slack: F32 = np.minimum(low, high)
    return slack


def _across(tiles: F32, regions: F32, slack_x: F32, slack_y: F32) -> Bool:
    """(R, T) tiles of the one most central column that holds a region's width, or of all it touches; rows likewise."""
    touches = np.ones(slack_x.shape, np.bool_)
    for axis, slack in ((0, slack_x), (1, slack_y)):
        overlaps = (regions[:, axis, None] < tiles[:, axis + 2]) & (regions[:, axis + 2, None] > tiles[:, axis])
        best = slack.max(1, initial=-np.inf, keepdims=True)
        touches &= overlaps & ((best < 0) | (slack == best))
    return touches
