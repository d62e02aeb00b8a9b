"""When a place has to be looked at again: at once for what is small, fast or new; less often for what can be foretold.

How far off a prediction can be grows with time, and how far off it may be grows with the size of the thing: a ball has to
be seen in every frame, a walking person filling 100 px a few times a second. Between the looks the tracker predicts.

Places where something moves and nothing is found, time and again (leaves, water, compression noise), are looked at less and
less often, down to twice a second; what is once found there is a track and no longer waits for its place.

Candidates of low score cost most, for they want whole tiles and hardly one in ten is ever confirmed: those on a known object are
seen whenever that is, those where nothing moves wait.

Where what was found stands (:mod:`streamdet.tiles.standing`) another look would see the same picture and say the same: a known
object there is left to the sweep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.boxes import area, intersection
from streamdet.types import COASTING, F32, TENTATIVE, Bool, Tracks

__all__ = ["Visits", "explained", "parts", "patience_s"]

F64 = NDArray[np.float64]

CELL_PX = 16
LONGEST_S = 0.4  # no known object is left to its prediction for longer
SMALL_PX = 16.0  # what is no larger than this is looked at in every frame
SIZE_PER_S = 400.0  # ... and every so many px more allow a second more
ORDINARY_SIZE_PER_S = 250.0  # for detectors of people and cars
SHARE_OF_SIZE = 0.35  # ... unless it moves further than this share of its size meanwhile
TENTATIVE_S = 0.5  # a candidate is looked at in every frame for so long
SHARE_OF_AGE = 0.3  # trust in a prediction grows with what it stands on
TENTATIVE_REST_S = 0.3  # a candidate standing still is looked at so often
DOUBTFUL_SCORE, DOUBTFUL_S = 0.6, 0.2  # one that scores less takes a second to be confirmed: so often will do
IDLE_DOUBTFUL_S = 0.5  # ... and so often where nothing moves
CROWDED_S, CROWDED_WAY = 0.1, 0.1  # objects that overlap: so often, or when they have moved by so much of their size
MISSED_S = 0.06  # looked at and not found: then so soon again
LONGEST_FUTILE_S = 0.5  # wait for a place where nothing was ever found
LARGE_PX, LONGEST_LARGE_S = 40.0, 0.2  # ... unless so much moves there that something must be behind it, for a while
LARGE_HIDES_S = 0.1  # ... and for movers, since a ball may be struck there and soon be gone
FORGIVEN_S = 2.0  # a futile look is forgotten after so long
MOST_FUTILE, MANY_FUTILE = 6.0, 4.5
NEAR_SHARE = 0.25  # a moving region in a track's box grown by this share is that object ...
SMALLEST_SHARE = 0.2  # ... unless it is so much smaller: a ball in front of a person
CROWDED_SHARE = 0.1
PART_SHARE = 0.5  # a part of an object is at most so large ...
PART_NEAR_SHARE = 0.1  # ... and lies at most this share of the object's size outside of where that is expected


class Visits:
    """When each place of a frame was last inside a tile that was run, and how often in vain, in cells of 16 px."""

    def __init__(self, frame_wh: tuple[int, int]) -> None:
        shape = [-(-side // CELL_PX) for side in reversed(frame_wh)]
        self._last_s: F64 = np.full(shape, -np.inf)
        self._futile: F64 = np.zeros(shape)
        self._futile_s: F64 = np.zeros(shape)
        self._watched: F32 = np.zeros((0, 4), np.float32)
        self._moved_s: F64 = np.full(shape, -np.inf)

    def mark(self, tiles_xyxy: Any, now_s: float) -> None:
        """These tiles are run now; a cell partly in one is taken as seen."""
        for x1, y1, x2, y2 in np.asarray(tiles_xyxy).tolist():
            self._last_s[y1 // CELL_PX : -(-y2 // CELL_PX), x1 // CELL_PX : -(-x2 // CELL_PX)] = now_s

    def stir(self, regions: F32, now_s: float) -> None:
        """Something moves there now."""
        size = (regions[:, 2:] - regions[:, :2]).max(1, initial=0)
        small = regions[size <= CELL_PX]
        row, column = self._cells(
            np.concatenate([small[:, [0, 1]], small[:, [2, 1]], small[:, [0, 3]], small[:, [2, 3]]])
        )
        self._moved_s[row, column] = now_s
        for x1, y1, x2, y2 in self._spans(regions[size > CELL_PX]):
            self._moved_s[y1:y2, x1:x2] = now_s

    def unchanged(self) -> Bool:
        """(rows, columns) of cells: seen, and nothing has moved there since."""
        return np.asarray((self._last_s >= self._moved_s) & (self._last_s > -np.inf))

    def _spans(self, xyxy: F32) -> list[list[int]]:
        """Columns and rows of cells, from and to, of each box."""
        low, high = self._cells(xyxy[:, :2]), self._cells(xyxy[:, 2:])
        return np.stack([low[1], low[0], high[1] + 1, high[0] + 1], 1).tolist()  # type: ignore[no-any-return]

    def last_s(self, xyxy: F32) -> F64:
        """(N,) when all of each box was last seen, told by its corners and its middle."""
        middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        points = np.stack([xyxy[:, [0, 1]], xyxy[:, [2, 1]], xyxy[:, [0, 3]], xyxy[:, [2, 3]], middle], 1)
        row, column = self._cells(points)
        last: F64 = self._last_s[row, column].min(1, initial=np.inf)
        return last

    def learn(self, tracks_xyxy: F32, now_s: float) -> None:
        """Where a region was looked at in the preceding call and no track is, the look was in vain."""
        if not len(self._watched):
            return
        found = explained(self._watched, tracks_xyxy, smallest_share=0.0)
        row, column = self._cells((self._watched[:, :2] + self._watched[:, 2:]) / 2)
        count = np.minimum(self._felt(row, column, now_s) + 1, MOST_FUTILE)
        for down in (-1, 0, 1):  # what sways does so from one cell to the next
            for right in (-1, 0, 1):
                y = np.clip(row + down, 0, self._futile.shape[0] - 1)
                x = np.clip(column + right, 0, self._futile.shape[1] - 1)
                self._futile[y, x] = np.where(found, 0.0, np.maximum(count, self._felt(y, x, now_s)))
                self._futile_s[y, x] = now_s

    def watch(self, regions: F32, now_s: float) -> None:
        """Of these regions, :meth:`learn` will judge those that were looked at now."""
        self._watched = regions[self.last_s(regions) >= now_s]

    def patience_s(self, regions: F32, dt_s: float, likely: Bool | None = None) -> F64:
        """(R,) how long to wait before looking again at what moves and is no known object.

        `likely` (R,), for a detector of movers: what looks like a small thing of its own is not waited for.
        """
        row, column = self._cells((regions[:, :2] + regions[:, 2:]) / 2)
        futile = self._futile[row, column]
        large_s = np.where(futile < MANY_FUTILE, LONGEST_LARGE_S, LONGEST_FUTILE_S) if likely is None else LARGE_HIDES_S
        longest_s = np.where(_size(regions) > LARGE_PX, large_s, LONGEST_FUTILE_S)
        wait_s = np.minimum(dt_s * (2.0 ** np.floor(futile) - 1), longest_s)
        return np.asarray(wait_s if likely is None else np.where(likely, 0.0, wait_s))

    def _felt(self, row: Any, column: Any, now_s: float) -> F64:
        felt: F64 = self._futile[row, column] - (now_s - self._futile_s[row, column]) / FORGIVEN_S
        return np.asarray(np.maximum(felt, 0.0))

    def _cells(self, points: Any) -> tuple[Any, Any]:
        most = np.array(self._last_s.shape[::-1]) - 1
        cell = np.clip(points // CELL_PX, 0, most).astype(np.intp)
        return cell[..., 1], cell[..., 0]


def patience_s(
    tracks: Tracks, unseen_s: F64, dt_s: float, still: Bool | None = None, stirred: Bool | None = None
) -> F64:
    """(M,) how long each track may go without being looked at; `unseen_s` how long its place was not.

    `still` (M,): what was found there stands (see :mod:`streamdet.tiles.standing`), `stirred` (M,): something moves in its box.
    None: of small movers nobody asks.
    """
    size = _size(tracks.xyxy)
    speed = np.maximum(np.linalg.norm(tracks.velocity_xy, axis=1), 1e-6)
    allowed = SIZE_PER_S if still is None else ORDINARY_SIZE_PER_S
    wait = np.minimum((size - SMALL_PX) / allowed, SHARE_OF_SIZE * size / speed)
    trust = np.where(tracks.state == TENTATIVE, tracks.age_s - TENTATIVE_S, tracks.age_s)
    wait = np.minimum(np.minimum(wait, SHARE_OF_AGE * trust), LONGEST_S)
    missed = (tracks.state == COASTING) & (unseen_s < 1.5 * dt_s)  # looked at just now, and not found
    if still is None or stirred is None:
        return np.where(missed, 0.0, wait)
    large, candidate = size > SMALL_PX, tracks.state == TENTATIVE
    doubtful = candidate & (tracks.score < DOUBTFUL_SCORE) & large & (~stirred | (size > LARGE_PX))
    wait = np.where(doubtful, np.maximum(wait, DOUBTFUL_S), wait)
    close_s = np.maximum(CROWDED_S, CROWDED_WAY * size / speed)
    wait = np.where(_crowded(tracks.xyxy), np.minimum(wait, close_s), wait)  # who is who has to be seen
    wait = np.where(doubtful & ~stirred, np.maximum(wait, IDLE_DOUBTFUL_S), wait)
    carried = doubtful & _within(tracks.xyxy, tracks.xyxy[~candidate])  # seen whenever the known object is
    wait = np.where(still & large, np.where(candidate, np.maximum(wait, TENTATIVE_REST_S), np.inf), wait)
    missed_s = np.where(large, np.minimum(MISSED_S, SHARE_OF_SIZE * size / speed), 0.0)
    return np.where(missed, missed_s, np.where(carried, np.inf, wait))


def _crowded(xyxy: F32) -> Bool:
    """(M,) whether another box overlaps each by more than `CROWDED_SHARE` of the smaller one."""
    shared, own = intersection(xyxy, xyxy), area(xyxy)
    np.fill_diagonal(shared, 0)
    return np.asarray((shared > CROWDED_SHARE * np.minimum(own[:, None], own)).any(1))


def _within(xyxy: F32, known: F32) -> Bool:
    """(M,) whether at least `PART_SHARE` of each box lies in one of the `known`."""
    return np.asarray((intersection(xyxy, known) >= PART_SHARE * area(xyxy)[:, None]).any(1))


def parts(regions: F32, known: F32) -> Bool:
    """(R,) whether each moving region is an arm, a leg, a door of one of the `known` objects: small, and on it or at its rim."""
    if not len(regions) or not len(known):
        return np.zeros(len(regions), np.bool_)
    grow = PART_NEAR_SHARE * (known[:, 2:] - known[:, :2])
    middle = (regions[:, None, :2] + regions[:, None, 2:]) / 2
    inside = ((middle >= known[:, :2] - grow) & (middle <= known[:, 2:] + grow)).all(2)
    return np.asarray((inside & (_size(regions)[:, None] <= PART_SHARE * _size(known))).any(1))


def explained(regions: F32, known: F32, *, smallest_share: float = SMALLEST_SHARE) -> Bool:
    """(R,) whether each moving region is (part of) one of the `known` objects, and not a small thing before it."""
    if not len(regions) or not len(known):
        return np.zeros(len(regions), np.bool_)
    grow = NEAR_SHARE * (known[:, 2:] - known[:, :2])
    middle = (regions[:, None, :2] + regions[:, None, 2:]) / 2
    inside = ((middle >= known[:, :2] - grow) & (middle <= known[:, 2:] + grow)).all(2)
    share = _size(regions)[:, None] / np.maximum(_size(known), 1e-6)
    return np.asarray((inside & (share >= smallest_share) & (share <= 1 / SHARE_OF_SIZE)).any(1))


def _size(xyxy: F32) -> F64:
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0).astype(np.float64)
    return np.asarray(np.sqrt(sides.prod(1)))
