"""What a track takes from a detection: its first hit, the next, and the one that does not fit its course."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking import belief, kalman, looks
from streamdet.tracking.pairing import Seen, size_of
from streamdet.tracking.reach import top_speed
from streamdet.tracking.table import COURSE, TrackTable, take
from streamdet.types import TENTATIVE

__all__ = ["begin", "begin_again", "hit", "resume", "turn"]

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]

SMOOTH_S = 0.07  # over which size and place lose their jitter
TRIAL_HITS = 2  # hits after which an abrupt turn is a fact
LARGEST_LEAD = 30.0  # score a label may be ahead by: a few seconds of another one change it


def begin(table: TrackTable, seen: Seen, column: Rows, *, key: int, now_s: float, pts_s: float, fastest: float) -> None:
    """Each of the detections `column` is the first hit of a new candidate; their keys count from `key`."""
    if not len(column):
        return
    fresh = table.append(len(column))
    fresh["key"] = np.arange(key, key + len(column))
    for place in ("position", "last", "birth", "smooth", "anchor"):
        fresh[place] = seen.centre[column]
    fresh["wh"] = seen.wh[column]
    noise = kalman.measurement_noise_px(seen.size[column])
    fresh["covariance"] = kalman.start(noise, top_speed(seen.size[column], fastest))
    fresh["last_s"] = fresh["birth_s"] = now_s
    fresh["birth_pts_s"] = pts_s
    fresh["hits"], fresh["looks"] = 1, seen.fresh[column]
    fresh["score_sum"] = fresh["label_lead"] = seen.score[column]
    fresh["odds"] = fresh["long_odds"] = belief.log_odds(seen.score[column])
    fresh["odds_weight"] = fresh["long_weight"] = 1.0
    fresh["label"] = seen.label[column]
    fresh["look"] = seen.own_look(column)
    _show(fresh, np.arange(len(column)), seen, column)


def begin_again(table: TrackTable, row: Rows, *, key: int) -> None:
    """What tracks `row` follow begins anew as candidates where it is now; their keys count from `key`.

    How long it has been seen there stays known: what has not stirred for long is not new.
    """
    copies = take(table.rows, row)
    fresh = table.append(len(row))
    fresh[:] = copies
    fresh["key"] = np.arange(key, key + len(row))
    fresh["id"], fresh["state"], fresh["trial"] = 0, TENTATIVE, 0
    fresh["birth"], fresh["smooth"], fresh["longest_step"] = copies["last"], copies["last"], 0.0
    fresh["doubted"], fresh["doubted_s"] = False, 0.0


def hit(rows: NDArray[Any], row: Rows, seen: Seen, column: Rows, *, now_s: float, step_s: float) -> None:
    """Tracks `row` are the detections `column`: learn from them."""
    centre, score = seen.centre[column], seen.score[column]
    noise = kalman.measurement_noise_px(seen.size[column])
    rows["position"][row], rows["velocity"][row], rows["covariance"][row] = kalman.update(
        rows["position"][row], rows["velocity"][row], rows["covariance"][row], centre, noise
    )
    gap = now_s - rows["last_s"][row]
    share = (1 - np.exp(-np.maximum(gap, 1e-3) / SMOOTH_S))[:, None]
    rows["smooth"][row] += share * (centre - rows["smooth"][row])
    rows["wh"][row] += share * (seen.wh[column] - rows["wh"][row])
    if seen.looked_at:
        rows["look"][row] = looks.learn(rows["look"][row], seen.own_look(column), seen.clear[column], gap)
    step = centre - rows["last"][row]
    rows["longest_step"][row] = np.maximum(rows["longest_step"][row], np.hypot(step[:, 0], step[:, 1]))
    belief.hear(rows, row, belief.log_odds(score), step_s=step_s)
    rows["last"][row], rows["last_s"][row] = centre, now_s
    belief.move(rows, row, step, gap)
    rows["misses"][row], rows["ignored_s"][row] = 0, 0.0
    rows["trial"][row] = np.maximum(rows["trial"][row] - 1, 0)
    rows["hits"][row] += 1
    rows["looks"][row] += seen.fresh[column]
    rows["score_sum"][row] += score
    _show(rows, row, seen, column)
    _vote(rows, row, seen.label[column], score)


def turn(rows: NDArray[Any], row: Rows, *, now_s: float, fastest: float) -> None:
    """Back to the last hit with unknown velocity: what follows is a new leg of the way.

    The old course is kept until the new one has proved itself: the turn may be a stray detection while the object,
    missed for a frame, flies straight on. Then :func:`resume` takes it up again.
    """
    fresh = row[rows["trial"][row] == 0]  # a second turn does not overwrite the course before the first
    for name in COURSE:
        rows["old_" + name][fresh] = rows[name][fresh]
    rows["trial"][row] = TRIAL_HITS + 1
    size = size_of(rows["wh"][row])
    start = kalman.start(kalman.measurement_noise_px(size), top_speed(size, fastest))
    power = kalman.acceleration_power(size, np.zeros(len(row)))
    rows["velocity"][row] = 0.0
    rows["position"][row], rows["covariance"][row] = kalman.predict(
        rows["last"][row], rows["velocity"][row], start, now_s - rows["last_s"][row], power
    )


def resume(rows: NDArray[Any], row: Rows) -> None:
    """The turn was none: tracks `row` are on their old course."""
    for name in COURSE:
        rows[name][row] = rows["old_" + name][row]
    rows["trial"][row] = 0


def _show(rows: NDArray[Any], row: Rows, seen: Seen, column: Rows) -> None:
    rows["box"][row], rows["score"][row] = seen.box[column], seen.score[column]
    rows["detection_row"][row], rows["held"][row] = seen.row[column], ~seen.fresh[column]


def _vote(rows: NDArray[Any], row: Rows, label: NDArray[np.int32], score: F64) -> None:
    """The label with the most score behind it stays (Boyer and Moore's majority vote: one number to remember)."""
    agrees = rows["label"][row] == label
    lead = np.minimum(rows["label_lead"][row], LARGEST_LEAD) + np.where(agrees, score, -score)
    rows["label"][row] = np.where(lead < 0, label, rows["label"][row])
    rows["label_lead"][row] = np.abs(lead)
