"""Labels in small filled tags, put where they cover neither objects nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.draw.canvas import DARK, SHIFT, Colour, Pen, Text, fixed, rounded
from streamdet.draw.marks import Box
from streamdet.types import U8

__all__ = ["Tag", "draw_tag", "place_tags", "tag_size"]

_TOLERATED = 0.02  # share of a tag that may lie over something; beyond it the tag is left out
_LARGE_SHARE = (
    0.15  # of the picture: a mark as large as that hides nothing behind a tag, and may leave no room beside it
)

Floats = NDArray[np.float64]

# A candidate's top-left corner = centre of the mark + _ALONG_MARK * half its size + _ALONG_TAG * the tag's size.
# First over and under the mark, at its left and right end, and beside it; in its corners, if it is large enough to be written
# on; then further and further away.
_PLACES: list[tuple[float, float, float, float]] = [
    (-1, -1, 0, -1),
    (1, -1, -1, -1),
    (-1, 1, 0, 0),
    (1, 1, -1, 0),
    (1, 0, 0, -0.5),
    (-1, 0, -1, -0.5),
    (-1, -1, 0, 0),
    (1, -1, -1, 0),
    (-1, 1, 0, -1),
    (1, 1, -1, -1),
]
_NEAR = len(_PLACES)
for _away in (1.0, 2.3, 3.8):
    _PLACES += [
        (1, -1, _away * 0.3, -_away - 0.5),
        (-1, -1, -1 - _away * 0.3, -_away - 0.5),
        (1, 1, _away * 0.3, _away - 0.5),
        (-1, 1, -1 - _away * 0.3, _away - 0.5),
        (0, -1, -0.5, -_away - 0.8),
        (0, 1, -0.5, _away - 0.2),
    ]
_ALONG_MARK = np.array(_PLACES, np.float64)[:, :2]
_ALONG_TAG = np.array(_PLACES, np.float64)[:, 2:]
_ORDER = np.arange(len(_PLACES)) * 0.05 + (
    np.arange(len(_PLACES)) >= _NEAR
)  # a place without a leader is always better


@dataclass(frozen=True, slots=True)
class Tag:
    """What is said about one object: `name` in bold, `detail` after it."""

    key: int
    name: str
    detail: str
    colour: Colour
    mark: Box
    ring: bool


def tag_size(tag: Tag, pen: Pen, text: Text) -> tuple[int, int]:
    """Width and height in px."""
    size = pen.text_px
    width = text.width(tag.name, size, 600)
    if tag.detail:
        width += round(size * 0.45) + text.width(tag.detail, size, 400)
    return width + 2 * _padding(size), round(size * 1.35)


def place_tags(
    tags: Sequence[Tag],
    sizes: Sequence[tuple[int, int]],
    wh: tuple[int, int],
    taken: Sequence[Box],
    before: dict[int, int],
) -> list[tuple[Tag, Box, bool]]:
    """Find a place for each tag, first come first served: (tag, box, moved away so that it needs a leader).

    Tags lie over no marks but very large ones. `taken`: boxes to keep clear of besides the marks and one another. `before`: the
    place (a candidate's number) each key had in the picture before; it keeps that place while it is free, so that tags do not
    jump; updated here.
    """
    blocked = np.zeros((2 * len(tags) + len(taken), 4))  # marks, tags placed so far, what else is taken
    marks = np.reshape([tag.mark for tag in tags], (-1, 4))
    small = (marks[:, 2:] - marks[:, :2]).prod(1) < _LARGE_SHARE * wh[0] * wh[1]
    blocked[: len(tags)][small] = marks[small]
    blocked[2 * len(tags) :] = np.reshape(taken, (-1, 4))
    placed: list[tuple[Tag, Box, bool]] = []
    now: dict[int, int] = {}
    for row, (tag, size) in enumerate(zip(tags, sizes, strict=True)):
        spots = _candidates(np.clip(tag.mark, 0, (*wh, *wh)), size)
        hidden = _overlap(spots, blocked) / (size[0] * size[1])
        outside = (spots[:, 0] < 0) | (spots[:, 1] < 0) | (spots[:, 2] > wh[0]) | (spots[:, 3] > wh[1])
        cost = hidden * 100 + _ORDER + outside * 1e6
        kept = before.get(tag.key)
        if kept is not None:
            cost[kept] -= 0.5
        best = int(np.argmin(cost))
        if hidden[best] > _TOLERATED or outside[best]:
            continue
        box: Box = tuple(spots[best].tolist())
        placed.append((tag, box, best >= _NEAR))
        now[tag.key] = best
        blocked[len(tags) + row] = spots[best]
    before.clear()
    before.update(now)
    return placed


def draw_tag(picture: U8, tag: Tag, box: Box, pen: Pen, text: Text, *, leader: bool) -> None:
    size = pen.text_px
    if leader:
        _leader(picture, tag, box, pen)
    cv2.fillConvexPoly(picture, rounded(box, size * 0.28), tag.colour, cv2.LINE_AA, SHIFT)
    x, baseline = round(box[0]) + _padding(size), round(box[1] + size * 1.03)
    text.write(picture, tag.name, (x, baseline), size, DARK, 600)
    if tag.detail:
        x += text.width(tag.name, size, 600) + round(size * 0.45)
        text.write(picture, tag.detail, (x, baseline), size, DARK, 400)


def _padding(size_px: int) -> int:
    return max(2, round(size_px * 0.3))


def _candidates(mark: Floats, size: tuple[int, int]) -> Floats:
    """(C,4) places round `mark`, best first; those from _NEAR on do not touch it and need a leader."""
    half = np.array([mark[2] - mark[0], mark[3] - mark[1]]) / 2
    centre = np.array([mark[0], mark[1]]) + half
    origin = np.round(centre + _ALONG_MARK * half + _ALONG_TAG * size)
    return np.hstack([origin, origin + size])


def _overlap(spots: Floats, blocked: Floats) -> Floats:
    """(C,) px of each spot that lie over any of `blocked` (twice where two of them overlap)."""
    reach = np.concatenate([spots[:, :2].min(axis=0), spots[:, 2:].max(axis=0)])
    blocked = blocked[(blocked[:, :2] < reach[2:]).all(axis=1) & (blocked[:, 2:] > reach[:2]).all(axis=1)]
    if not len(blocked):
        return np.zeros(len(spots))
    low = np.maximum(spots[:, None, :2], blocked[None, :, :2])
    high = np.minimum(spots[:, None, 2:], blocked[None, :, 2:])
    size = np.maximum(high - low, 0)
    covered: Floats = (size[..., 0] * size[..., 1]).sum(axis=1)
    return covered


def _leader(picture: U8, tag: Tag, box: Box, pen: Pen) -> None:
    """A thin line from the mark's nearest point to the tag."""
    cx, cy = (tag.mark[0] + tag.mark[2]) / 2, (tag.mark[1] + tag.mark[3]) / 2
    end = (float(np.clip(cx, box[0], box[2])), float(np.clip(cy, box[1], box[3])))
    dx, dy = end[0] - cx, end[1] - cy
    half = ((tag.mark[2] - tag.mark[0]) / 2, (tag.mark[3] - tag.mark[1]) / 2)
    share = half[0] / np.hypot(dx, dy) if tag.ring else 1 / max(abs(dx) / half[0], abs(dy) / half[1])
    start = (cx + dx * share, cy + dy * share)
    a, b = fixed([start, end]).tolist()
    cv2.line(picture, a, b, *pen.casing, cv2.LINE_AA, SHIFT)
    cv2.line(picture, a, b, tag.colour, max(1, pen.line_px - 1), cv2.LINE_AA, SHIFT)
