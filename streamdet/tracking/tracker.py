"""Identity over time, for what is small and fast and for what is not.

A frame goes straight through: predict, pair, learn, confirm (or find again what was lost), retire. Time is media time, so
a dropped frame or a variable rate only changes how far a track is predicted.

Pairing goes from the sure to the daring; each step takes what the ones before left over:

1. known tracks, and lost ones with a look, with strong detections near the predicted place (uncertainty decides how near);
2. known tracks with weak detections (an object does not cease to exist because its score sinks: ByteTrack);
3. candidates hit at least twice, likewise predicted;
4. known tracks that turned abruptly (bounce, hit): anywhere a thing of their size can get to, if so near a detection is no
   coincidence there;
5. candidates hit once: speed unknown, so anywhere within reach;
6. what is left begins a new candidate.

Larger things are also told apart by how they look (:mod:`streamdet.tracking.looks`): a stranger costs more, and one that cannot
be the same is never taken. A detector of movers' boxes are too small for that.

A candidate is confirmed when it has enough hits, they are no coincidence (the sum of what each proves, given how many
unexplained detections the neighbourhood shows), it has either gone somewhere or scores high on average, and, if it is
small, it is believed (:mod:`streamdet.tracking.belief`). A small track that is believed no more, or whose predicted place is
a mere guess, is told as tentative until it is believed or found again; its identity is kept for a while.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.config import TrackerConfig
from streamdet.tracking import belief, kalman, learning
from streamdet.tracking.clutter import ClutterMap
from streamdet.tracking.looks import covering
from streamdet.tracking.pairing import OTHER_CLASS, Seen, known_by_look, length_of, match, see, size_of
from streamdet.tracking.reach import covered, fits_better, gate_px, in_cells, reach_px
from streamdet.tracking.relink import relink
from streamdet.tracking.table import LOST, TrackTable, take
from streamdet.tracking.twins import unite
from streamdet.tracking.worth import is_worthy
from streamdet.types import COASTING, CONFIRMED, TENTATIVE, WEAK_SHARE, Detections, Frame, Motion, TilePlan, Tracks

__all__ = ["Tracker"]

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]

TURN_S = 0.15  # an abrupt turn is only believed this soon after the last hit
TURN_CHANCE = 0.05  # ... and if no more coincidences than this are to be expected so near
MISSED_CHANCE = 0.5  # the same for a track not seen in the preceding frame
EVIDENCE_OF_ONE = 7.0  # the most one hit can prove
EVIDENCE_SPENT = 1.5  # what a hit in clutter proves on average: each costs it, so that chance never adds up
HOPELESS = -4.0
TENTATIVE_GAP_S = 0.06
LONGEST_IGNORED_S = 5.0
SHORT_HOLD_S = 0.1  # repeated frames for no longer than this are padding of a frame rate, not a pause


class Tracker:
    """Implements :class:`streamdet.protocols.Tracker`. One per stream; memory is bounded by the objects alive at once.

    Strong detections score at least ``config.high_score`` (default `threshold`); weak ones, down to 0.4 of `threshold`,
    only keep confirmed tracks alive, so give the tracker what the detector finds down there if that is cheap.

    Rows of the Tracks returned are ordered by key. A confirmed row with a hit shows the detection's own box; a coasting
    one the predicted box, with the score of its last hit. When a new track turns out to be one that was lost, the lost
    one goes on with its id and *its* key, and the new one's key (tentative until then) appears in ``ended``. A lost track
    has no rows; its key appears in ``ended`` once ``coast_s + relink_s`` are over.

    `movers`: the detections are of small moving things and their scores about the chance to be right, so small tracks are to be
    doubted (:mod:`streamdet.tracking.belief`); a person or a sign standing still in a street is none. ``config.doubt`` overrides.
    `wary`: log odds a small track has to be believed beyond an even chance.

    A repeated frame returns the rows of the preceding one. A still picture's detections above the threshold are its
    tracks, confirmed at once, and end with it. Ids go on counting over epochs, cuts and stills.
    """

    def __init__(self, config: TrackerConfig, *, threshold: float, movers: bool = True, wary: float = 0.0) -> None:
        self._config = config
        self._doubts = movers if config.doubt is None else config.doubt
        self._wary = wary
        # What moves is often given a wrong class: that is nothing to tell two movers apart by.
        self._other_class = 0.0 if not config.class_agnostic else 1.0 if self._doubts else OTHER_CLASS
        self._threshold = threshold
        self._strong = threshold if config.high_score is None else config.high_score
        self._table = TrackTable()
        self._next_id = 1
        self._next_key = 1
        self._place: tuple[int, tuple[int, int], bool] | None = None  # epoch, frame size, still: a change starts afresh
        self._pts_s = 0.0
        self._held_s = 0.0
        self._now_s = 0.0  # as media time, but standing still while frames repeat
        self._step_s = 0.0
        self._clutter = ClutterMap((1, 1))
        self._returned = Tracks.empty()
        self._returned_boxes = Detections.empty().xyxy

    def update(
        self,
        frame: Frame,
        motion: Motion,
        merged: Detections,
        looked: TilePlan | None = None,
        stands: NDArray[np.bool_] | None = None,
    ) -> Tracks:
        """Take in one frame's merged detections. `detection_row` of the result refers to `merged`.

        For tracks in none of the tiles `looked` (None: all were looked at), and in no cell that `stands` as it was looked at
        earlier, time stands still, for a few seconds at most.
        """
        goes_on = self._place == (frame.epoch, frame.wh, False) and not frame.still
        goes_on &= frame.pts_s - self._pts_s <= self._longest_pause_s()
        if goes_on and motion.state == "repeat":
            return self._hold(frame, merged)
        if goes_on and motion.state != "cut":
            self._advance(frame, motion)
            ended = np.zeros(0, np.int64)
        else:
            ended = self._start_afresh(frame)
        joined = np.zeros((0, 2), np.int64)
        if frame.still:
            self._admit_all(see(merged, self._threshold))
        else:
            excused = self._excuse(looked, stands)
            picture = None if self._doubts else frame.picture
            least, once = (
                min(self._strong, WEAK_SHARE * self._threshold),
                self._config.class_agnostic and not self._doubts,
            )
            self._pair(see(merged, least, picture, named_once=once), frame.pts_s)
            self._miss(excused)
            joined = self._confirm()
            ended = np.sort(np.concatenate([ended, joined[:, 0], self._retire(frame.wh), self._doubt()]))
        self._returned, self._returned_boxes = self._rows(frame.pts_s), merged.xyxy
        return replace(self._returned, ended=ended, joined=joined)

    # ----------------------------------------------------------------------------------------------------------- time

    def _longest_pause_s(self) -> float:
        """After a longer one nothing can be told from before, unless the frames always come that far apart."""
        return max(2 * (self._config.coast_s + self._config.relink_s), 5 * self._step_s, 1.0)

    def _start_afresh(self, frame: Frame) -> NDArray[np.int64]:
        ended: NDArray[np.int64] = self._table.rows["key"].copy()
        self._table.keep(np.zeros(len(self._table), np.bool_))
        self._place = (frame.epoch, frame.wh, frame.still)
        self._clutter = ClutterMap(frame.wh)
        self._pts_s, self._held_s, self._step_s = frame.pts_s, 0.0, 0.0
        return ended

    def _hold(self, frame: Frame, merged: Detections) -> Tracks:
        """The same picture again: the same tracks. Their rows of `merged` stand if it holds those very boxes there."""
        self._held_s += max(frame.pts_s - self._pts_s, 0.0)
        self._pts_s = frame.pts_s
        seen, told = self._returned.seen_row, self._returned.detection_row
        assert seen is not None
        there = (seen >= 0) & (seen < len(merged))
        there[there] = (merged.xyxy[seen[there]] == self._returned_boxes[seen[there]]).all(axis=1)
        seen = np.where(there, seen, -1).astype(np.int32)
        return replace(self._returned, detection_row=np.where(told < 0, told, seen), seen_row=seen)

    def _advance(self, frame: Frame, motion: Motion) -> None:
        """Predict every track to this frame's time.

        Repeated frames that pad a lower frame rate (25 in 30) took no time in the scene; a stalled camera's did. Which it
        was is not known for short ones: then none is assumed and the doubt is added to the uncertainty of the place.
        """
        held, step = self._held_s, max(frame.pts_s - self._pts_s, 0.0)
        doubt_s = held / 2 if held <= SHORT_HOLD_S else 0.0
        step += held if held > SHORT_HOLD_S else 0.0
        self._pts_s, self._held_s, self._step_s = frame.pts_s, 0.0, step
        self._now_s += step
        self._table.shift(motion.shift_xy)
        rows = self._table.rows
        if motion.state == "exposure":  # all look different now
            rows["look"] = np.nan
        doubt_px2 = 1.0 if motion.state == "moving" else 0.0
        for kind, which in (
            ("", slice(None)),
            *((("old_", at),) if len(at := np.flatnonzero(rows["trial"] > 0)) else ()),
        ):
            velocity, covariance = rows[kind + "velocity"][which], rows[kind + "covariance"][which]
            speed = length_of(velocity)
            power = kalman.acceleration_power(size_of(rows["wh"][which]), speed)
            position, covariance = kalman.predict(rows[kind + "position"][which], velocity, covariance, step, power)
            covariance[:, 0] += (speed * doubt_s) ** 2 + doubt_px2
            rows[kind + "position"][which], rows[kind + "covariance"][which] = position, covariance

    def _excuse(self, looked: TilePlan | None, stands: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Count a miss for every track (a hit takes it back), but not for those where nobody looked. Returns these."""
        rows = self._table.rows
        rows["misses"] += 1
        if looked is None or looked.everywhere or len(rows) == 0:
            return np.zeros(len(rows), np.bool_)
        excused = ~covered(rows["position"], looked) & (rows["ignored_s"] < LONGEST_IGNORED_S)
        if stands is not None:
            excused &= ~in_cells(rows["position"], stands)
        rows["misses"] -= excused
        rows["last_s"] += self._step_s * excused
        rows["ignored_s"] += self._step_s * excused
        return np.asarray(excused)

    def _miss(self, excused: NDArray[np.bool_]) -> None:
        """Those looked for and not found are believed less."""
        before = len(excused)  # what came after is new, and was seen
        missed = np.flatnonzero((self._table.rows["detection_row"][:before] < 0) & ~excused)
        belief.miss(self._table.rows, missed, step_s=self._step_s)

    # -------------------------------------------------------------------------------------------------------- pairing

    def _pair(self, seen: Seen, pts_s: float) -> None:
        rows = self._table.rows
        rows["detection_row"] = -1
        strong = seen.score >= np.float32(self._strong)
        free = strong.copy()
        gap = self._now_s - rows["last_s"]
        known = (rows["state"] == CONFIRMED) | (rows["state"] == COASTING)
        lost = (rows["state"] == LOST) & known_by_look(rows)
        candidate = (rows["state"] == TENTATIVE) & (rows["hits"] > 1)
        predicted, gate = rows["position"], gate_px(rows)
        chance = self._clutter.density(rows["last"])
        if seen.clear.any():
            half = rows["wh"][known] / 2
            expected = np.concatenate([predicted[known] - half, predicted[known] + half], axis=1)
            seen = replace(seen, clear=seen.clear & (covering(seen.box, expected) <= 1))
        certain = np.where(rows["misses"] > 1, chance, 0.0)

        straight = known & (rows["trial"] > 0) & ~fits_better(rows, seen.centre[strong])
        self._take(seen, free, straight, origin=rows["old_position"], radius=gate_px(rows, "old_"), turned_not=True)
        self._take(seen, free, known | lost, origin=predicted, radius=gate, chance=(certain, MISSED_CHANCE))
        weak = ~strong
        recent = known & (gap <= self._config.coast_s / 2)
        self._take(seen, weak, recent, origin=predicted, radius=0.7 * gate, chance=(certain, MISSED_CHANCE))
        self._take(seen, free, candidate, origin=predicted, radius=gate, gathers=True)
        turned = known & ((gap <= TURN_S) | (rows["misses"] == 1))
        reach = reach_px(rows, gap, self._config.max_speed_px_s)
        self._take(seen, free, turned, origin=rows["last"], radius=reach, chance=(chance, TURN_CHANCE), turned=True)
        self._clutter.add(seen.centre[free], self._step_s)
        once = (rows["state"] == TENTATIVE) & (rows["hits"] == 1)
        self._take(seen, free, once, origin=rows["last"], radius=reach, gathers=True)
        self._begin(seen, np.flatnonzero(free), pts_s)

    def _take(
        self,
        seen: Seen,
        free: NDArray[np.bool_],
        who: NDArray[np.bool_],
        *,
        origin: F64,
        radius: F64,
        chance: tuple[F64, float] | None = None,
        turned: bool = False,
        turned_not: bool = False,
        gathers: bool = False,
    ) -> None:
        """Pair those of `who` not hit in this frame with `free` detections, which are then free no more."""
        rows = self._table.rows
        which = np.flatnonzero(who & (rows["detection_row"] < 0))
        if len(which) == 0 or not free.any():
            return
        row, column = match(
            rows,
            which,
            seen,
            np.flatnonzero(free),
            origin=origin[which],
            radius_px=radius[which],
            other_class=self._other_class,
            chance=None if chance is None else (chance[0][which], chance[1]),
        )
        if not len(row):
            return
        free[column] = False
        if gathers:
            rows["evidence"][row] += self._proof(rows[row], origin[row], seen.centre[column]) - EVIDENCE_SPENT
        if turned:
            learning.turn(rows, row, now_s=self._now_s, fastest=self._config.max_speed_px_s)
        elif turned_not:
            learning.resume(rows, row)
        learning.hit(rows, row, seen, column, now_s=self._now_s, step_s=self._step_s)

    def _proof(self, rows: NDArray[Any], expected: F64, found: F64) -> F64:
        """(P,) -log of the chance that something unexplained lies this near to where the track was expected."""
        near = ((found - expected) ** 2).sum(axis=1) + kalman.measurement_noise_px(size_of(rows["wh"])) ** 2
        coincidences = self._clutter.density(found) * np.pi * near
        return np.asarray(np.clip(-np.log(-np.expm1(-coincidences)), 0.0, EVIDENCE_OF_ONE))

    # ---------------------------------------------------------------------------------------------- beginning and end

    def _begin(self, seen: Seen, column: Rows, pts_s: float) -> None:
        now_s, fastest = self._now_s, self._config.max_speed_px_s
        learning.begin(self._table, seen, column, key=self._next_key, now_s=now_s, pts_s=pts_s, fastest=fastest)
        self._next_key += len(column)

    def _admit_all(self, seen: Seen) -> None:
        """A still picture: what is seen is so."""
        self._begin(seen, np.arange(len(seen)), self._pts_s)
        self._name(np.arange(len(seen)))

    def _confirm(self) -> NDArray[np.int64]:
        """Candidates that earned it get an id, or are recognised as one that was lost.

        Returns (K,2) keys given up, and for which.
        """
        rows = self._table.rows
        worthy = np.flatnonzero(is_worthy(rows, self._config, now_s=self._now_s, doubts=self._doubts, wary=self._wary))
        missed = rows["detection_row"] < 0
        lost = np.flatnonzero((rows["state"] >= COASTING) | ((rows["state"] == CONFIRMED) & missed))
        old, new = relink(
            rows,
            lost,
            worthy,
            longest_s=self._config.coast_s + self._config.relink_s,
            max_speed_px_s=self._config.max_speed_px_s,
            other_class=self._other_class,
        )
        joined = np.stack([rows["key"][new], rows["key"][old]], axis=1)
        if len(worthy):
            self._table.carry_over(old, new)
            rows["state"][old], rows["doubted"][old] = CONFIRMED, False
            self._name(np.setdiff1d(worthy, new))
            self._table.keep(~np.isin(np.arange(len(rows)), new))
        return np.concatenate([joined, unite(self._table)]) if self._doubts else joined

    def _name(self, row: Rows) -> None:
        rows = self._table.rows
        rows["id"][row] = np.arange(self._next_id, self._next_id + len(row))
        rows["state"][row] = CONFIRMED
        self._next_id += len(row)

    def _retire(self, frame_wh: tuple[int, int]) -> NDArray[np.int64]:
        """Coasting, lost, gone. Returns the keys of those gone."""
        config, rows = self._config, self._table.rows
        gap = self._now_s - rows["last_s"]
        missed = rows["detection_row"] < 0
        tentative = rows["state"] == TENTATIVE
        rows["evidence"] -= EVIDENCE_SPENT * (tentative & (rows["misses"] > 0))
        rows["state"][~tentative & ~missed] = CONFIRMED
        rows["state"][(rows["state"] == CONFIRMED) & missed] = COASTING
        lived = rows["last_s"] - rows["birth_s"]
        patience = np.minimum(config.coast_s, np.maximum(lived, 0.1))
        outside = ((rows["position"] < 0) | (rows["position"] > np.asarray(frame_wh))).any(axis=1)
        unseen = (gap > patience) & (rows["misses"] > 1)
        rows["state"][(rows["state"] == COASTING) & (unseen | outside)] = LOST
        impatient = TENTATIVE_GAP_S + np.minimum(0.01 * rows["hits"], 0.2)
        gone = tentative & (((rows["misses"] > 1) & (gap > impatient)) | (rows["evidence"] < HOPELESS))
        gone |= (rows["state"] == LOST) & (gap > config.coast_s + config.relink_s)
        ended: NDArray[np.int64] = rows["key"][gone]
        self._table.keep(~gone)
        return ended

    def _doubt(self) -> NDArray[np.int64]:
        """Which known tracks are believed. One doubted for long is known no more: returns the keys of those given up.

        What is still seen there goes on as a candidate, which has to prove itself anew.
        """
        rows, config = self._table.rows, self._config
        if not self._doubts or len(rows) == 0:
            return np.zeros(0, np.int64)
        gap = self._now_s - rows["last_s"]
        known = (rows["state"] == CONFIRMED) | (rows["state"] == COASTING)
        believed = belief.belief(rows, gap) - self._wary
        rows["doubted"] = known & (believed < np.where(rows["doubted"], belief.FOUND, belief.GONE))
        rows["doubted_s"] = np.where(rows["doubted"], rows["doubted_s"] + self._step_s, 0.0)
        given_up = np.flatnonzero(rows["doubted_s"] > config.coast_s + config.relink_s)
        ended: NDArray[np.int64] = rows["key"][given_up]
        if len(given_up):
            learning.begin_again(self._table, given_up, key=self._next_key)
            self._next_key += len(given_up)
            self._table.keep(~np.isin(np.arange(len(self._table)), given_up))
        return ended

    # --------------------------------------------------------------------------------------------------------- result

    def _rows(self, pts_s: float) -> Tracks:
        rows = self._table.rows
        rows = take(rows, np.flatnonzero(rows["state"] != LOST))
        unseen = (rows["detection_row"] < 0)[:, None]
        hidden = belief.hidden(rows) & self._doubts
        half = rows["wh"] / 2
        predicted = np.concatenate([rows["position"] - half, rows["position"] + half], axis=1)
        return Tracks(
            id=np.where(hidden, 0, rows["id"]),
            key=rows["key"].copy(),
            xyxy=np.where(unseen, predicted, rows["box"]).astype(np.float32),
            velocity_xy=rows["velocity"].astype(np.float32),
            score=rows["score"].astype(np.float32),
            label=rows["label"].copy(),
            state=np.where(hidden, TENTATIVE, rows["state"]).astype(np.uint8),
            age_s=(pts_s - rows["birth_pts_s"]).astype(np.float32),
            detection_row=np.where(hidden, -1, rows["detection_row"]).astype(np.int32),
            seen_row=rows["detection_row"].copy(),
            held=rows["held"] & ~unseen[:, 0],
        )
