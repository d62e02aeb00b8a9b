"""Where tiles lie: the geometry of a plan, computed once per frame size.

Exact cover without slivers: every tile of a plan has the same size, neighbours overlap by at least what was asked, the
last row and column end at the frame's border. A frame smaller than a tile gets one tile of its own size. Origins are even
where the frame allows it (4:2:0 chroma then needs no half-sample shift).
"""

from __future__ import annotations

import math

import numpy as np

from streamdet.config import TilesConfig
from streamdet.errors import ConfigError
from streamdet.tiles.polygon import covered, inside, touched
from streamdet.types import I32, WHY_ALL, Bool, TilePlan

__all__ = [
    "ONE_TILE_PX",
    "SMALL_TILE",
    "coarse_rows",
    "describe",
    "grid",
    "inside",
    "keep_mask",
    "overlap_px",
    "plan_tiles",
    "wanted",
]

WANTED_PX = 6.0  # an object reaches the network at least this large (tile=auto), as far as LARGEST_ZOOM allows
LARGEST_ZOOM = 2.0
ONE_TILE_PX = 640 * 480  # any-size networks, motion look: a frame up to this area is one tile ...
SMALL_TILE = 320  # ... a larger one is cut into these, so that work follows what moves
WHOLE_PX = 1920 * 1088  # any-size networks, look=all: up to this area one tile (no seams, no overlap paid for) ...
LARGE_TILE = 1280  # ... then these
LARGEST_INPUT_PX = 3840 * 2176  # tile=none on an any-size network: larger frames are shrunk to this area
SMALLEST_TILE, LARGEST_TILE, MOST_TILES = 16, 16384, 20_000

Size = tuple[int, int]


def plan_tiles(
    frame_wh: Size, *, input_wh: Size | None, config: TilesConfig, stretch: bool = False, stride: int = 32
) -> TilePlan:
    """The full plan for frames of `frame_wh` px; every row's ``why`` is "all".

    `input_wh` None: the network takes any multiple of `stride`. ``tile``:

    - ``"none"``: the whole frame, letterboxed (stretched) into the input.
    - px or ``"WxH"``: that many frame px, scaled to the input (any-size network: not scaled).
    - ``"auto"``: the whole frame if it fits the input; else tiles of the input's size, or smaller ones magnified so that
      an object of ``smallest_px`` reaches the network with 6 px, at most twofold. Never shrunk. Any-size network: see
      the constants of this module.

    Raises:
        ConfigError: sizes without sense, or `roi` / `ignore` leave nothing to look at.
    """
    if min(frame_wh) < 1:
        raise ConfigError(f"a frame of {frame_wh[0]}x{frame_wh[1]} px cannot be tiled")
    nominal = _tile_wh(frame_wh, input_wh, config, stride)
    tile = frame_wh if nominal is None else (min(nominal[0], frame_wh[0]), min(nominal[1], frame_wh[1]))
    network = input_wh or _any_size(tile, stride)
    xyxy = grid(frame_wh, tile, nominal or tile, (config.overlap, config.overlap))
    scale = _scale(tile, nominal or tile, network, stretch)
    if config.whole_frame and len(xyxy) > 1:
        whole = _scale(frame_wh, frame_wh, network, stretch)
        # last: by then a picture that is read in windows has passed by, and its overview is there
        xyxy = np.concatenate([xyxy, np.array([[0, 0, *frame_wh]], np.int32)])
        scales = np.array([scale] * (len(xyxy) - 1) + [whole], np.float32)
    else:
        scales = np.tile(np.array(scale, np.float32), (len(xyxy), 1))
    keep = wanted(xyxy, frame_wh, config)
    xyxy, scales = xyxy[keep], scales[keep]
    return TilePlan(frame_wh, network, xyxy, scales, np.full(len(xyxy), WHY_ALL, np.uint8), len(xyxy))


def keep_mask(frame_wh: Size, config: TilesConfig, xyxy: np.ndarray) -> Bool | None:
    """(N,) which of `xyxy` (N,4) have their centre inside `roi` and outside `ignore`; None if neither is configured."""
    if not config.roi and not config.ignore:
        return None
    centres = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    keep = inside(config.roi, frame_wh, centres) if config.roi else np.ones(len(centres), np.bool_)
    return keep & ~inside(config.ignore, frame_wh, centres) if config.ignore else keep


def coarse_rows(plan: TilePlan) -> Bool:
    """(T,) which rows show the whole frame beside finer tiles."""
    whole = (plan.xyxy == np.array([0, 0, *plan.frame_wh])).all(1)
    return np.asarray(whole & (plan.of > 1), np.bool_)


def describe(plan: TilePlan) -> str:
    """One line for people: ``77 tiles of 416x416 px (scale 1), overlap 106x83 px, network input 416x416``."""
    fine = plan[~coarse_rows(plan)]
    if not len(fine):
        return "no tiles"
    width, height = (int(v) for v in fine.xyxy[0, 2:] - fine.xyxy[0, :2])
    scale = " x ".join(dict.fromkeys(f"{v:.3g}" for v in fine.scale[0].tolist()))
    text = f"{len(fine)} tile{'s' * (len(fine) > 1)} of {width}x{height} px (scale {scale})"
    gaps = [np.diff(np.unique(fine.xyxy[:, axis])) for axis in (0, 1)]
    shared = [size - int(gap.min()) for gap, size in zip(gaps, (width, height)) if len(gap)]
    if shared:
        text += f", overlap {'x'.join(str(px) for px in dict.fromkeys(shared))} px"
    if len(fine) < len(plan):
        text += f", and the whole frame (scale {plan.scale[coarse_rows(plan)][0, 0]:.3g})"
    return f"{text}, network input {plan.input_wh[0]}x{plan.input_wh[1]}"


def _tile_wh(frame_wh: Size, input_wh: Size | None, config: TilesConfig, stride: int) -> Size | None:
    """Size of a tile in frame px before it is cut to the frame; None: the whole frame."""
    text = str(config.tile).strip().lower()
    if text == "none":
        return None
    if text != "auto":
        return _parsed(text)
    area = frame_wh[0] * frame_wh[1]
    if input_wh is None:
        everywhere = config.look == "all"
        if area <= (WHOLE_PX if everywhere else ONE_TILE_PX):
            return None
        most = LARGE_TILE if everywhere else SMALL_TILE
        return _fitted(frame_wh[0], most, config.overlap, stride), _fitted(frame_wh[1], most, config.overlap, stride)
    zoom = min(max(WANTED_PX / config.smallest_px, 1.0), LARGEST_ZOOM)
    if frame_wh[0] * zoom <= input_wh[0] and frame_wh[1] * zoom <= input_wh[1]:
        return None
    return max(SMALLEST_TILE, _even(input_wh[0] / zoom)), max(SMALLEST_TILE, _even(input_wh[1] / zoom))


def _fitted(frame: int, most: int, overlap: float, stride: int) -> int:
    """The smallest tile side that covers `frame` px with as few tiles as sides of `most` would need."""
    share = min(overlap_px(overlap, most), most // 2)
    count = max(1, math.ceil((frame - share) / (most - share)))
    side = math.ceil((frame + (count - 1) * share) / count / stride) * stride
    return min(most, side)


def _parsed(text: str) -> Size:
    try:
        sizes = [int(part) for part in text.split("x")]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2):
        raise ConfigError(f"tiles.tile is '{text}'; use auto, none, a size in px such as 640, or 960x540")
    if min(sizes) < SMALLEST_TILE or max(sizes) > LARGEST_TILE:
        raise ConfigError(f"tiles.tile is {text} px; use {SMALLEST_TILE} to {LARGEST_TILE} px, auto or none")
    return sizes[0], sizes[-1]


def _even(value: float) -> int:
    return int(value) if value < 2 else int(value) // 2 * 2


def _any_size(tile: Size, stride: int) -> Size:
    """Input of an any-size network for one tile: its own size rounded up, or less for a gigantic one."""
    shrink = min(1.0, math.sqrt(LARGEST_INPUT_PX / (tile[0] * tile[1])))
    width, height = (max(1, math.ceil(side * shrink / stride)) * stride for side in tile)
    return width, height


def _scale(tile: Size, nominal: Size, network: Size, stretch: bool) -> tuple[float, float]:
    """Input px per frame px, such that the tile becomes a whole number of input px on both axes.

    A tile that the frame cut short keeps the scale of a full one (its neighbours in size on other frames), unless that
    would shrink it needlessly.
    """
    if stretch:
        return network[0] / tile[0], network[1] / tile[1]
    full = min(network[0] / nominal[0], network[1] / nominal[1])
    fit = min(network[0] / tile[0], network[1] / tile[1])
    best = max(full, min(1.0, fit))
    width, height = (min(network[i], max(1, round(tile[i] * best))) for i in (0, 1))
    return width / tile[0], height / tile[1]


def overlap_px(overlap: float, side: int) -> int:
    """What tiles of `side` px share with their neighbours: a share of it below 1, else px."""
    return round(overlap * side) if overlap < 1 else round(overlap)


def grid(frame_wh: Size, tile: Size, nominal: Size, overlap: tuple[float, float]) -> I32:
    """(T,4) row by row: `tile` px, of `nominal` px before they were cut to the frame. Raises ConfigError."""
    starts = []
    for frame, size, whole, asked in zip(frame_wh, tile, nominal, overlap):
        share = overlap_px(asked, whole)
        if share >= whole and frame > size:
            raise ConfigError(f"tiles.overlap of {share} px is as large as a tile ({whole} px); use a smaller one")
        starts.append(_starts(frame, size, whole - share))
    if len(starts[0]) * len(starts[1]) > MOST_TILES:
        raise ConfigError(
            f"tiles of {tile[0]}x{tile[1]} px with overlap {overlap[0]:g} make {len(starts[0]) * len(starts[1])} tiles of a "
            f"{frame_wh[0]}x{frame_wh[1]} frame (at most {MOST_TILES}); use larger tiles or less overlap"
        )
    y, x = (part.ravel() for part in np.meshgrid(starts[1], starts[0], indexing="ij"))
    return np.stack([x, y, x + tile[0], y + tile[1]], 1).astype(np.int32)


def _starts(frame: int, size: int, step: int) -> I32:
    """Starts of tiles along one axis: as few as the largest step allows, spread evenly, even, the last at the border."""
    room = frame - size
    if room <= 0:
        return np.zeros(1, np.int32)
    step = max(1, _even(step))
    even = -(-room // math.ceil(room / step))
    even = min(step, even + even % 2)
    return np.minimum(np.arange(math.ceil(room / even) + 1) * even, room).astype(np.int32)


def wanted(xyxy: I32, frame_wh: Size, config: TilesConfig) -> Bool:
    """(T,) which tiles show something of `roi` that is not ignored. Raises ConfigError if none does."""
    keep = np.ones(len(xyxy), np.bool_)
    if config.roi:
        keep &= touched(config.roi, frame_wh, xyxy)
    if config.ignore:
        keep &= ~covered(config.ignore, frame_wh, xyxy)
    if not keep.any():
        raise ConfigError(
            f"tiles.roi and tiles.ignore leave nothing of a {frame_wh[0]}x{frame_wh[1]} frame to look at; "
            "check their coordinates (px, or all values at most 1)"
        )
    return keep
