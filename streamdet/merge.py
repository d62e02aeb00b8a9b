"""Duplicates across tile seams become one row: deterministic, independent of the order of the input, aware of tile edges.

Two steps.

**Seams** (all methods). A box marked ``truncated`` touches an inner edge of its tile, so it may show only a piece of its
object. Between boxes of *different* tiles and (unless class-agnostic) the same label:

- a truncated box of which at least half lies in a whole box is a piece of that object: it *yields*. The whole box keeps its
  coordinates, whichever of the two scored higher; the row takes the better score.
- truncated boxes that face each other across a seam are *joined* into their hull. The piece cut on its right must lie to the
  left of the piece cut on its left; tiles that overlap show the strip they share to both, so both pieces cover that strip.
  Two objects standing side by side do not: each ends where the other begins. Along the seam both must have the same extent
  (`SEAM_ALIKE`; more strictly `SEAM_ALIKE_ABUTTING` where the tiles, and so the pieces, hardly overlap). Truncated boxes that
  lie in each other by half are joined, too. The best-fitting pieces are joined first, and two boxes of the same tile never end
  up in one object: the detector told them apart. What was joined takes part again, until nothing changes.

**Copies** (`MergeConfig.method`, on what is left, in canonical order: score down, then coordinates, label, edges, tile):

- ``greedy_nmm``: the first box takes every later one with ``metric >= threshold`` that is still free; of those, in order, each
  that matches the box as grown so far grows it to the hull. This is SAHI's GREEDYNMM for untruncated boxes (which compares
  ``> threshold`` while growing, here ``>=`` throughout).
- ``nmm``: everything connected by matches, however indirectly, becomes one hull.
- ``nms``: as greedy_nmm, but the first box keeps its coordinates.
- ``fusion``: as nms, with the mean of all coordinates weighted by score (the clustering is by the best box, not by the running
  mean as in Weighted Boxes Fusion).
- ``soft_nms``: nothing is merged; a match multiplies the lower score by 1 - metric, best box first (linear decay, Bodla et al.
  2017); below ``soft_floor`` a decayed box is dropped.

Masks, where the detector gives any: of joined pieces, and of copies whose boxes grew into one, all together; else the keeper's.

Tiny boxes (mean side <= `TINY_PX`) of different tiles also match when `boxes.nwd` >= 0.5: one pixel of disagreement between
two copies of a 4 px ball already takes IoU and IoS below any useful threshold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet import boxes
from streamdet.config import MergeConfig
from streamdet.masks import union
from streamdet.types import Detections

__all__ = ["Merger", "merge"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

LEFT, TOP, RIGHT, BOTTOM = 1, 2, 4, 8
PIECE_SHARE = 0.5  # of a truncated box that must lie in another one to be a piece of it
SEAM_GAP_PX = (
    3.0  # two pieces of one object leave at most this between them (a box ends up to 2 px off its tile's edge)
)
SEAM_ALIKE = 0.5  # shared extent over total extent along the seam
SEAM_ALIKE_ABUTTING = 0.75
TINY_PX = 8.0
TINY_NWD = 0.5


class Merger:
    """:func:`merge` with its settings: the `Merger` of the line. Stateless."""

    def __init__(self, config: MergeConfig | None = None) -> None:
        self._config = config or MergeConfig()

    def __call__(self, found: Detections) -> Detections:
        return merge(found, self._config)

    def beside(self, merged: Detections, weak: Detections) -> Detections:
        """Those rows of `weak` that are no copy of a row of `merged` or of a better weak one (NMS, merged rows first)."""
        if not len(weak):
            return weak
        both = Detections.concat([merged, weak])
        rank = both.score + np.where(np.arange(len(both)) < len(merged), 1.0, 0.0).astype(np.float32)
        label = None if self._config.class_agnostic else both.label
        kept = boxes.nms(both.xyxy, rank, label, self._config.threshold, metric=self._config.metric)
        return weak[np.sort(kept[kept >= len(merged)]) - len(merged)]


def merge(found: Detections, config: MergeConfig) -> Detections:
    """One row per object, by descending score. `found` may stand in any order: the result is the same.

    A row has the coordinates its method gives (see the module), the best score of its members and the label that scored it,
    the tile of the box that led it, and the ``truncated`` bits common to all its members (0 as soon as one is whole).
    """
    if len(found) < 2:
        return found
    rows = _sorted(found)
    near = _neighbours(rows, config)
    if rows.truncated.any():
        rows, near = _without_seams(rows, near, config)
    if not len(near):
        return rows
    pairs, value = _matching(rows, near, config)
    if not len(pairs):
        return rows
    if config.method == "soft_nms":
        return _soft_nms(rows, pairs, value, config.soft_floor)
    owner = _components(len(rows), pairs) if config.method == "nmm" else boxes.greedy_owners(len(rows), pairs)
    return _sorted(_one_per_owner(rows, owner, config))


def _canonical(rows: Detections) -> I64:
    return boxes.canonical_order(rows.xyxy, rows.score, rows.label, rows.truncated, rows.tile)


def _sorted(rows: Detections) -> Detections:
    return rows[_canonical(rows)]


def _neighbours(rows: Detections, config: MergeConfig) -> I64:
    """(P,2) rows i < j, sorted, near enough to be one object and allowed to."""
    pairs = boxes.candidate_pairs(rows.xyxy, config.metric, threshold=config.threshold, margin_px=SEAM_GAP_PX)
    if config.class_agnostic:
        return pairs
    return np.asarray(pairs[rows.label[pairs[:, 0]] == rows.label[pairs[:, 1]]], np.int64)


def _matching(rows: Detections, pairs: I64, config: MergeConfig) -> tuple[I64, F64]:
    """Those (P,2) pairs that are copies of one object, still sorted, and (P,) how alike they are."""
    xyxy = rows.xyxy.astype(np.float64)
    one, other = pairs[:, 0], pairs[:, 1]
    matching, value = _alike(xyxy.take(one, 0), xyxy.take(other, 0), rows.tile[one] != rows.tile[other], config)
    return pairs[matching], value[matching]


def _alike(one: F64, other: F64, elsewhere: Bool, config: MergeConfig) -> tuple[Bool, F64]:
    value: Any = boxes.paired(one, other, config.metric)
    sides = [box[:, 2] - box[:, 0] + (box[:, 3] - box[:, 1]) for box in (one, other)]
    size = np.maximum(*sides) / 2
    tiny = np.flatnonzero((size <= TINY_PX) & elsewhere & (value < config.threshold))
    matching = (value >= config.threshold) & (value > 0)
    if len(tiny):
        near: Any = boxes.nwd_paired(one[tiny], other[tiny])
        matching[tiny] = near >= TINY_NWD
        value[tiny] = np.where(near >= TINY_NWD, near, value[tiny])
    return matching, value


# ---------------------------------------------------------------------------------------------------------------- seams


def _without_seams(rows: Detections, near: I64, config: MergeConfig) -> tuple[Detections, I64]:
    """Rows, and their neighbours, after truncated boxes have yielded or were joined."""
    while True:
        cut = rows.truncated != 0
        seams = near[(cut[near[:, 0]] | cut[near[:, 1]]) & (rows.tile[near[:, 0]] != rows.tile[near[:, 1]])]
        owner = _yield(rows, seams)
        free = owner == np.arange(len(rows))
        pieces = _join(rows, seams[free[seams].all(axis=1)])
        if not pieces:
            return _without_taken(rows, owner, near)
        hulls = [
            _hull(rows[piece]) for piece in pieces
        ]  # again: a hull may be what others are pieces of, or a piece itself
        free[np.concatenate(pieces)] = False
        rows = _sorted(Detections.concat([_with_best(rows, owner, np.flatnonzero(free)), *hulls]))
        near = _neighbours(rows, config)


def _without_taken(rows: Detections, owner: I64, near: I64) -> tuple[Detections, I64]:
    """The rows that own themselves, in canonical order, and the neighbours among them."""
    free = owner == np.arange(len(rows))
    if free.all():
        return rows, near
    kept = _with_best(rows, owner, np.flatnonzero(free))
    order = _canonical(kept)
    place = np.argsort(order)[np.cumsum(free) - 1]
    still = free[near[:, 0]] & free[near[:, 1]]
    one, other = place[near[still, 0]], place[near[still, 1]]
    first, second = np.minimum(one, other), np.maximum(one, other)
    again = np.argsort(first * len(rows) + second, kind="stable")
    return kept[order], np.stack([first[again], second[again]], axis=1)


def _yield(rows: Detections, pairs: I64) -> I64:
    """(N,) the whole box each truncated one is a piece of; itself if none. `pairs` are of different tiles."""
    owner = np.arange(len(rows), dtype=np.int64)
    cut = rows.truncated != 0
    piece, whole = np.concatenate([pairs, pairs[:, ::-1]]).T
    asks = cut[piece] & ~cut[whole]
    piece, whole = piece[asks], whole[asks]
    xyxy = rows.xyxy.astype(np.float64)
    shared, size = boxes.intersection_paired(xyxy[piece], xyxy[whole]), boxes.area(xyxy[piece])
    inside = (shared >= PIECE_SHARE * size) & (shared > 0)
    piece, whole, share = piece[inside], whole[inside], shared[inside] / size[inside]
    order = np.lexsort(
        (-whole, share, piece)
    )  # of several wholes the last written wins: the most of it, then the best row
    owner[piece[order]] = whole[order]
    return owner


def _join(rows: Detections, pairs: I64) -> list[I64]:
    """Groups of rows that are pieces of one object cut by several tiles. `pairs` are of different tiles."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[(rows.truncated[both] != 0).all(axis=1)]
    if not len(both):
        return []
    across = _facing(rows, both, axis=0, before_bit=RIGHT, after_bit=LEFT)
    down = _facing(rows, both, axis=1, before_bit=BOTTOM, after_bit=TOP)
    xyxy = rows.xyxy.astype(np.float64)
    within: Any = boxes.ios_paired(xyxy[both[:, 0]], xyxy[both[:, 1]])
    fit = np.maximum(np.maximum(across, down), np.where(within >= PIECE_SHARE, within, 0))
    both, fit = both[fit > 0], fit[fit > 0]
    both = both[np.lexsort((both[:, 1], both[:, 0], -fit))]
    group = {row: [row] for row in np.unique(both).tolist()}
    tiles = {row: {int(rows.tile[row])} for row in group}
    for one, other in both.tolist():
        if group[one] is group[other] or tiles[one] & tiles[other]:
            continue
        members, seen = group[one] + group[other], tiles[one] | tiles[other]
        for row in members:
            group[row], tiles[row] = members, seen
    distinct = {min(members): members for members in group.values() if len(members) > 1}
    return [np.array(sorted(distinct[first]), np.int64) for first in sorted(distinct)]


def _facing(rows: Detections, pairs: I64, *, axis: int, before_bit: int, after_bit: int) -> F64:
    """(P,) how well the second box continues the first one across a seam along `axis` (0 not at all, 1 perfectly)."""
    before, after = rows.xyxy[pairs[:, 0]].astype(np.float64), rows.xyxy[pairs[:, 1]].astype(np.float64)
    begin, end, side_begin, side_end = axis, axis + 2, 1 - axis, 3 - axis
    faces = (rows.truncated[pairs[:, 0]] & before_bit > 0) & (rows.truncated[pairs[:, 1]] & after_bit > 0)
    strip_px = before[:, end] - after[:, begin]
    faces &= (strip_px >= -SEAM_GAP_PX) & (before[:, begin] <= after[:, begin] + SEAM_GAP_PX)
    faces &= after[:, end] >= before[:, end] - SEAM_GAP_PX
    shared = np.minimum(before[:, side_end], after[:, side_end]) - np.maximum(
        before[:, side_begin], after[:, side_begin]
    )
    total = np.maximum(before[:, side_end], after[:, side_end]) - np.minimum(
        before[:, side_begin], after[:, side_begin]
    )
    alike = np.divide(shared, total, out=np.zeros(len(pairs)), where=(total > 0) & (shared > 0))
    wanted = np.where(strip_px > 2 * SEAM_GAP_PX, SEAM_ALIKE, SEAM_ALIKE_ABUTTING)
    return np.where(faces & (alike >= wanted), alike, 0.0)


def _hull(pieces: Detections) -> Detections:
    """One row round all pieces; still truncated on a side where every piece that reaches it is."""
    low, high = pieces.xyxy[:, :2].min(axis=0), pieces.xyxy[:, 2:].max(axis=0)
    hull = np.concatenate([low, high])
    reaches = np.abs(pieces.xyxy - hull) <= SEAM_GAP_PX
    bits = sum(
        bit
        for side, bit in enumerate((LEFT, TOP, RIGHT, BOTTOM))
        if (pieces.truncated[reaches[:, side]] & bit > 0).all()
    )
    masks = None
    if pieces.masks is not None:
        masks = np.full(1, None)
        masks[0] = union(pieces.masks)
    row = Detections.of(
        hull, pieces.score[:1], pieces.label[:1], pieces.tile[:1], bits
    )  # sorted: the first is the best
    return replace(row, masks=masks)


# --------------------------------------------------------------------------------------------------------------- copies


def _with_best(rows: Detections, owner: I64, keepers: I64) -> Detections:
    """The `keepers`, each with the best score among the rows it owns, the label of that row, and the bits common to all.

    `rows` in canonical order.
    """
    best = np.full(len(rows), len(rows), np.int64)
    np.minimum.at(best, owner, np.arange(len(rows)))  # rows stand in canonical order: the first one scored best
    best = best[keepers]
    bits = np.full(len(rows), 255, np.uint8)
    np.bitwise_and.at(bits, owner, rows.truncated)
    return replace(rows[keepers], score=rows.score[best], label=rows.label[best], truncated=bits[keepers])


def _one_per_owner(rows: Detections, owner: I64, config: MergeConfig) -> Detections:
    keepers = np.flatnonzero(owner == np.arange(len(rows)))
    kept = _with_best(rows, owner, keepers)
    if config.method == "nms":
        return kept
    if config.method == "fusion":
        xyxy = _weighted_mean(rows, owner)
    elif config.method == "nmm":
        xyxy = _all_hulls(rows.xyxy.astype(np.float64), owner)
    else:
        xyxy = _grown(rows, owner, config)
    masks = None if rows.masks is None or config.method == "fusion" else _united(rows, owner, xyxy, keepers)
    return replace(kept, xyxy=xyxy[keepers].astype(np.float32), masks=kept.masks if masks is None else masks)


def _united(rows: Detections, owner: I64, xyxy: F64, keepers: I64) -> NDArray[Any]:
    """(K,) masks of the keepers with those of the rows they own, as far as they grew to hold these."""
    assert rows.masks is not None
    hull = xyxy[owner]
    inside = (rows.xyxy[:, :2] >= hull[:, :2] - 1e-3).all(axis=1) & (rows.xyxy[:, 2:] <= hull[:, 2:] + 1e-3).all(axis=1)
    masks = rows.masks[keepers]
    for place, keeper in enumerate(keepers.tolist()):
        masks[place] = union(rows.masks[inside & (owner == keeper)])
    return masks


def _weighted_mean(rows: Detections, owner: I64) -> F64:
    weight = np.maximum(rows.score.astype(np.float64), 1e-9)
    total = np.bincount(owner, weight, minlength=len(rows))
    sums = [np.bincount(owner, weight * rows.xyxy[:, side], minlength=len(rows)) for side in range(4)]
    return np.stack(sums, axis=1) / np.where(total > 0, total, 1)[:, None]


def _all_hulls(xyxy: F64, owner: I64) -> F64:
    hull = xyxy.copy()
    _include(hull, owner, xyxy)
    return hull


def _include(hull: F64, owner: I64, xyxy: F64) -> None:
    """Grow rows `owner` of `hull` in place so that they hold `xyxy`, row by row."""
    for side, reduce in enumerate((np.minimum, np.minimum, np.maximum, np.maximum)):
        reduce.at(hull[:, side], owner, xyxy[:, side])


def _grown(rows: Detections, owner: I64, config: MergeConfig) -> F64:
    """Every keeper grown by the rows it owns, best first, as long as they match it as grown so far."""
    xyxy = rows.xyxy.astype(np.float64)
    members = np.flatnonzero(owner != np.arange(len(rows)))
    if config.metric == "ios":  # a box smaller than its keeper overlaps it no less as it grows: no need to ask again
        size = boxes.area(xyxy)
        asks = np.zeros(len(rows), np.bool_)
        asks[owner[members[size[members] > size[owner[members]]]]] = True
        sure = members[~asks[owner[members]]]
        _include(xyxy, owner[sure], xyxy[sure])
        members = members[asks[owner[members]]]
    members = members[np.argsort(owner[members], kind="stable")]
    begin = np.searchsorted(owner[members], owner[members], side="left")
    nth = np.arange(len(members)) - begin
    for turn in range(int(nth.max(initial=-1)) + 1):  # the first member of every keeper at once, then the second, ...
        row = members[nth == turn]
        keeper = owner[row]
        fits, _ = _alike(xyxy[keeper], xyxy[row], rows.tile[keeper] != rows.tile[row], config)
        row, keeper = row[fits], keeper[fits]
        _include(xyxy, keeper, xyxy[row])
    return xyxy


def _components(count: int, pairs: I64) -> I64:
    """(count,) the lowest row connected to each row by `pairs`."""
    lowest = np.arange(count, dtype=np.int64)
    one, other = pairs[:, 0], pairs[:, 1]
    while len(one):
        low = np.minimum(lowest[one], lowest[other])
        np.minimum.at(lowest, lowest[one], low)
        np.minimum.at(lowest, lowest[other], low)
        while (lowest[lowest] != lowest).any():
            lowest = lowest[lowest]
        open_ = lowest[one] != lowest[other]
        one, other = one[open_], other[open_]
    return lowest


def _soft_nms(rows: Detections, pairs: I64, value: F64, floor: float) -> Detections:
    """Lower every score by its better neighbours. A row better than all its open neighbours is final: all such at once."""
    score = rows.score.astype(np.float64)
    touched = np.zeros(len(rows), np.bool_)
    one, other = pairs[:, 0], pairs[:, 1]
    while len(one):
        first_wins = score[one] >= score[other]  # one < other: the better row in canonical order wins a tie
        winner, loser = np.where(first_wins, one, other), np.where(first_wins, other, one)
        beaten = np.zeros(len(rows), np.bool_)
        beaten[loser] = True
        final = ~beaten[winner]
        np.multiply.at(score, loser[final], 1 - value[final])
        touched[loser[final]] = True
        gone = touched & (score < floor)  # a dropped box lowers nobody
        open_ = ~final & ~gone[one] & ~gone[other]
        one, other, value = one[open_], other[open_], value[open_]
    kept = ~touched | (score >= floor)
    decayed = replace(rows, score=score.astype(np.float32))
    return _sorted(decayed[kept])
