"""Whether a network's objects survive rounding: it is run both ways on drawn scenes, and what it says of them is compared.

bfloat16 keeps 8 bits of a number. Most networks bear that; one that computes coordinates of hundreds of px before its last layer
loses pixels. Rows of the decoder are compared before duplicates are suppressed: there the best of several alike may be another
one for the last digit's sake, which means nothing.

Measured on these scenes: NanoDet, PicoDet and YOLOX-Nano move their boxes by .002, .003 and .005 of their size, DEIMv2 and
FastestDet by .011 to .017; on real frames much the same.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet import boxes
from streamdet.detectors.backend import Backend
from streamdet.detectors.decode.layout import Candidates
from streamdet.detectors.sniff import ModelSpec, probe_wh
from streamdet.inputspec import InputSpec
from streamdet.types import F32, U8

__all__ = ["drawn_scene", "fed", "why_not_rounded"]

_SCENES = 8
_LEAST_SCORE, _MOST_ROWS = 0.03, 100  # what is compared of a scene
_SAME_IOU = 0.5
_LEAST_FOUND = 0.98
_MOST_SHIFT, _MOST_SHIFT_PX, _MOST_SCORE = (
    0.0085,
    0.5,
    0.02,
)  # medians, sure rows counting most; shifts of the worst edge
_NO_SHIFT_PX = 0.15  # is none, however small the box
_MOST_CHANGE = 0.03  # of the outputs' own range, where there are no rows to compare
_DRAWN, _LARGE, _LONG_AGO = 15, 9, -30  # objects of a scene, the first of them larger ones; frames


def why_not_rounded(spec: ModelSpec, exact: Backend, rounded: Backend) -> str:
    """What the `rounded` one gets wrong, in words; empty if its answers are as good."""
    of, change = 0, 0.0
    differences: list[NDArray[np.float64]] = []
    wh, taken = probe_wh(spec.file), rounded.wants(spec.input)
    for one, other in zip(_raws(exact, spec.input, wh), _raws(rounded, taken, wh), strict=True):
        ours, theirs = _rows(spec, one, wh), _rows(spec, other, wh)
        ours = ours[ours.score >= _LEAST_SCORE][:_MOST_ROWS]
        of += len(ours)
        change = max(change, _change(one, other))
        differences.append(_differences(ours, theirs))
    drawn_scene.cache_clear()
    if not of:
        return "" if change <= _MOST_CHANGE else f"its numbers change by {change:.1%} of their range"
    weight, shift, shift_px, score = np.concatenate(differences, axis=1)
    if len(weight) < _LEAST_FOUND * of:
        return f"{of - len(weight)} of {of} rows are lost"
    shift_by, px, score_by = (_median(values, weight) for values in (shift, shift_px, score))
    if px > _MOST_SHIFT_PX or (shift_by > _MOST_SHIFT and px > _NO_SHIFT_PX):
        return f"boxes move by {shift_by:.1%} of their size, {px:.2f} px"
    return f"scores change by {score_by:.3f}" if score_by > _MOST_SCORE else ""


def _differences(ours: Candidates, theirs: Candidates) -> NDArray[np.float64]:
    """(4, N) of those rows that both have: score, shift of the worst edge as a share of the box and in px, change of score."""
    row, partner = _pairs(ours, theirs)
    moved = np.abs(ours.xyxy[row] - theirs.xyxy[partner]).max(axis=1, initial=0.0)
    size = np.sqrt(np.maximum(1.0, np.prod(ours.xyxy[row, 2:] - ours.xyxy[row, :2], axis=1)))
    score = ours.score[row]
    return np.stack([score, moved / size, moved, np.abs(score - theirs.score[partner])]).astype(np.float64)


def _median(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    sums = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)])


def _raws(backend: Backend, spec: InputSpec, wh: tuple[int, int]) -> list[dict[str, NDArray[Any]]]:
    """Answers to all scenes, run side by side as tiles are."""
    data = np.concatenate([fed(spec, wh, number) for number in range(_SCENES)])
    return [{name: np.array(array) for name, array in raw.items()} for _, _, raw in backend.infer(data)]


def _rows(spec: ModelSpec, raw: dict[str, NDArray[Any]], wh: tuple[int, int]) -> Candidates:
    """Those of the first tile, the best ones first; more than are compared, for one may have lost a few places."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = spec.family.decode(raw, spec.layout, wh, _LEAST_SCORE * 0.5)
    real = np.isfinite(found.score) & np.isfinite(found.xyxy).all(axis=1) & (found.tile == 0)
    found = found[real]
    return found[np.argsort(-found.score, kind="stable")[: _MOST_ROWS * 4]]


def _pairs(ours: Candidates, theirs: Candidates) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Our rows, and for each the row of theirs that is most alike; those that have one."""
    if not len(ours) or not len(theirs):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    alike = np.asarray(boxes.iou(ours.xyxy, theirs.xyxy), np.float64)
    alike[ours.label[:, None] != theirs.label] = 0
    best = alike.argmax(axis=1)
    rows = np.flatnonzero(alike[np.arange(len(ours)), best] >= _SAME_IOU)
    return rows, best[rows]


def _change(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> float:
    """The largest difference of an output, as a share of its range; infinite if they cannot be compared."""
    worst = 0.0
    for name, a in one.items():
        b = other.get(name)
        if b is None or a.shape != b.shape:
            return float("inf")
        if a.dtype.kind != "f" or not a.size:
            continue
        spread = max(float(np.ptp(a[np.isfinite(a)])) if np.isfinite(a).any() else 0.0, 1e-6)
        worst = max(worst, float(np.nanmax(np.abs(a.astype(np.float64) - b), initial=0.0)) / spread)
    return worst


# --------------------------------------------------------------------------------------------------------------- pictures


def fed(spec: InputSpec, wh: tuple[int, int], number: int) -> NDArray[Any]:
    """One tile of network input, in a batch of `spec.batch`: a drawn scene, in which what is drawn moves."""
    frames = {channel.offset for channel in spec.parsed} | ({-1, -2, _LONG_AGO} if _signed(spec) else set())
    scenes = {frame: drawn_scene(wh, number, frame) for frame in frames}
    luma = {frame: np.asarray(cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY), np.float32) for frame, scene in scenes.items()}
    between = {"difference": (0, -1), "previous_difference": (-1, -2), "background_difference": (0, _LONG_AGO)}
    planes = np.empty((len(spec.channels), wh[1], wh[0]), np.float32)
    for index, channel in enumerate(spec.parsed):
        gain, offset = spec.affine(index)
        if channel.signed:
            now, before = between[channel.what]
            planes[index] = ((luma[now] - luma[before]) * gain).clip(-spec.signed_clip, spec.signed_clip)
        else:
            scene = scenes[channel.offset]
            plane = luma[channel.offset] if channel.what == "y" else scene[..., "bgr".index(channel.what)]
            planes[index] = plane * np.float32(gain) + np.float32(offset)
    tile = planes.transpose(1, 2, 0) if spec.layout == "nhwc" else planes
    if spec.signed_zero:
        signed = np.array([channel.signed for channel in spec.parsed])
        tile = np.where(signed, tile * np.float32(spec.signed_scale) + spec.signed_zero, tile)
    whole = np.rint(tile).clip(0, 255) if spec.dtype == "uint8" else tile
    return np.ascontiguousarray(np.repeat(whole[None], spec.batch or 1, axis=0).astype(spec.dtype))


def _signed(spec: InputSpec) -> bool:
    return any(channel.signed for channel in spec.parsed)


@functools.lru_cache(maxsize=4 * _SCENES)
def drawn_scene(wh: tuple[int, int], number: int, frame: int = 0) -> U8:
    """(H, W, 3) BGR: textured ground and sky, and on it walkers, cars and balls of many sizes, drawn with a few strokes.

    All but the ground is somewhere else in another `frame`.
    """
    rng = np.random.default_rng(number)
    picture = _ground(wh, rng)
    scale = min(wh) / 320
    for turn in range(_DRAWN):
        draw = (_walker, _car, _ball)[turn % 3] if turn < _LARGE else _ball
        low, high = (20, 160) if turn < _LARGE else (8, 20)
        size = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * scale
        at = rng.uniform(0.05, 0.95, 2) * wh + frame * rng.uniform(-9, 9, 2) * scale
        draw(picture, at, size, rng.uniform(10, 245, (3, 3)).tolist())
    grains = np.random.default_rng((number, frame + 1000)).standard_normal(picture.shape, np.float32)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), np.float32) + grains * 2
    return np.asarray(picture.clip(0, 255), np.uint8)


def _ground(wh: tuple[int, int], rng: np.random.Generator) -> F32:
    width, height = wh
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = rng.uniform(90, 200, 3) * (1 - down) + rng.uniform(40, 150, 3) * down
    picture: F32 = np.repeat(column.astype(np.float32), width, axis=1)
    for grain in (4, 8, 16, 32, 64):
        shape = (height // grain + 2, width // grain + 2)
        spots = (rng.normal(0, 0.5, (*shape, 3)) + rng.normal(0, 1, (*shape, 1))).astype(np.float32)
        picture += cv2.resize(spots, wh, interpolation=cv2.INTER_CUBIC) * np.float32(rng.uniform(2, 9))
    return picture


def _walker(picture: F32, at: NDArray[np.float64], size: float, colours: list[list[float]]) -> None:
    head = tuple(max(1, int(share * size)) for share in (0.07, 0.09))
    cv2.ellipse(picture, _px(at, size, 0, -0.4), head, 0, 0, 360, colours[0], -1, cv2.LINE_AA)
    _rectangle(picture, at, size, (-0.12, -0.3, 0.12, 0.08), colours[1])
    _rectangle(picture, at, size, (-0.11, 0.08, -0.02, 0.5), colours[2])
    _rectangle(picture, at, size, (0.02, 0.08, 0.11, 0.5), colours[2])


def _car(picture: F32, at: NDArray[np.float64], size: float, colours: list[list[float]]) -> None:
    _rectangle(picture, at, size, (-0.5, -0.1, 0.5, 0.15), colours[0])
    _rectangle(picture, at, size, (-0.3, -0.28, 0.25, -0.1), colours[1])
    for side in (-0.3, 0.3):
        cv2.circle(picture, _px(at, size, side, 0.15), max(1, int(0.1 * size)), (20, 20, 20), -1, cv2.LINE_AA)


def _ball(picture: F32, at: NDArray[np.float64], size: float, colours: list[list[float]]) -> None:
    cv2.circle(picture, _px(at, size, 0, 0), max(1, int(0.25 * size)), colours[0], -1, cv2.LINE_AA)


def _rectangle(
    picture: F32,
    at: NDArray[np.float64],
    size: float,
    box: tuple[float, float, float, float],
    colour: list[float],
) -> None:
    cv2.rectangle(picture, _px(at, size, *box[:2]), _px(at, size, *box[2:]), colour, -1)


def _px(at: NDArray[np.float64], size: float, x: float, y: float) -> tuple[int, int]:
    return int(at[0] + x * size), int(at[1] + y * size)
