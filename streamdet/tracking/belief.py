"""How surely a small track is a real mover: what its detections said of late, how long it has been seen, how it flies.

A detector's score is taken as the chance to be right (ours are calibrated so), hence its log odds add up to evidence. Hits of
one track are far from independent (a bright speck fools the network in every frame), so the *mean* over the last moments counts
in full and the number of hits only by its logarithm. A frame without a hit speaks against the track, as a poor score does.
What goes its way speaks for it: a limb, a shoe, a racket that is swung to and fro, a flickering speck come back to where they
were; a ball flies on; what hovers has to score higher, and what does not stir at all higher still. The weights were fitted by
logistic regression on rendered clips, held-out clips of the air set, a tennis clip and street scenes: zero is an even chance.

Only small things are doubted: from :data:`PLAIN_PX` on a thing shows by its looks what it is, and what follows people and cars
is ruled by hits, way and score alone (:mod:`streamdet.tracking.tracker`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.tracking.pairing import length_of, size_of
from streamdet.types import COASTING, TENTATIVE

__all__ = [
    "FIRM",
    "FOUND",
    "GONE",
    "PLAIN_PX",
    "WARY_OF_NETWORKS",
    "belief",
    "foreseen",
    "hear",
    "hidden",
    "log_odds",
    "miss",
    "move",
]

F64 = NDArray[np.float64]
Rows = NDArray[np.intp]

FOUND, GONE = 0.0, -0.5  # belief from which a track is shown, and below which no more
WARY_OF_NETWORKS = (
    0.6  # more log odds asked of what a network takes for movers: calibrated on skies more than on crowds
)
FIRM = 2.0  # ... and from which one hit less will do
PLAIN_PX = 16.0
PLAIN_PER_PX = 0.25  # belief that each px of size beyond PLAIN_PX adds
MISSED = -1.5  # log odds that a frame without a hit stands for
WORST, BEST = -1.5, 5.0  # log odds of a single score
REMEMBERED_S, REMEMBERED_FRAMES = 0.3, 8.0  # how far the mean looks back: the longer of the two
LONG_S = 3.0  # ... of what does not stir: a lamp that is taken for a bird now and then is none
COURSE_S, COURSE_HITS = 0.2, 3.0  # the same for the course
SOFT_PX, SOFT_SHARE = 2.0, 0.25  # way, and share of the size, by which a thing on the spot may seem to move
PER_LOG_HIT, MOST_HITS = 0.7, 12
PER_COURSE = 1.0
FAR_PX, FAR_S = (
    32.0,
    1.5,
)  # what has come this far from where it was on average of late is on its way, however it wobbles
STILL, STILL_PX, STILL_S = (
    1.5,
    3.0,
    1.0,
)  # a hovering drone sways by a pixel or more within a second or two; a lamp does not
START = -1.6
UNSEEN, GAP_PER_S = 0.7, 9.0  # what not being hit in this frame, and for how long, takes away
OVERLAPS = 0.6  # share of the size by which a prediction may be off (standard deviation) and still be worth showing


def log_odds(score: F64) -> F64:
    """(N,) of scores 0..1."""
    chance = np.clip(score, 1e-6, 1 - 1e-6)
    return np.asarray(np.clip(np.log(chance / (1 - chance)), WORST, BEST))


def hear(rows: NDArray[Any], row: Rows, odds: F64 | float, *, step_s: float) -> None:
    """One more frame has spoken for or against tracks `row`."""
    fade = np.exp(-min(step_s / REMEMBERED_S, 1 / REMEMBERED_FRAMES))
    weight = fade * rows["odds_weight"][row] + 1
    rows["odds_weight"][row] = weight
    rows["odds"][row] += (odds - rows["odds"][row]) / weight
    weight = np.exp(-step_s / LONG_S) * rows["long_weight"][row] + 1
    rows["long_weight"][row] = weight
    rows["long_odds"][row] += (odds - rows["long_odds"][row]) / weight


def miss(rows: NDArray[Any], row: Rows, *, step_s: float) -> None:
    """Tracks `row` were looked for and not found."""
    if len(row):
        hear(rows, row, MISSED, step_s=step_s)


def move(rows: NDArray[Any], row: Rows, step_px: F64, gap_s: F64) -> None:
    """Tracks `row` were hit `step_px` (P,2) from where they were `gap_s` (P,) ago."""
    fade = np.exp(-np.minimum(gap_s / COURSE_S, 1 / COURSE_HITS))
    rows["flow"][row] = fade[:, None] * rows["flow"][row] + step_px
    rows["flow_length"][row] = fade * rows["flow_length"][row] + np.hypot(step_px[:, 0], step_px[:, 1])
    follow = np.where(rows["state"][row] == TENTATIVE, 0.0, 1 - np.exp(-gap_s / FAR_S))  # a candidate's is its birth
    behind = (1 - follow)[:, None] * (rows["smooth"][row] - rows["anchor"][row])
    behind *= np.minimum(1.0, FAR_PX / np.maximum(np.hypot(behind[:, 0], behind[:, 1]), 1e-9))[:, None]
    rows["anchor"][row] = rows["smooth"][row] - behind


def belief(rows: NDArray[Any], gap_s: F64) -> F64:
    """(N,) log odds that each is a real mover and where it is said to be, `gap_s` (N,) after its last hit."""
    size = size_of(rows["wh"])
    hits = PER_LOG_HIT * np.log(np.clip(rows["hits"], 1, MOST_HITS))
    unseen = (UNSEEN + GAP_PER_S * gap_s) * (rows["detection_row"] < 0)
    plain = PLAIN_PER_PX * np.maximum(size - PLAIN_PX, 0)
    course, still = _course(rows, size)
    odds = rows["odds"] - still * np.maximum(rows["odds"] - rows["long_odds"], 0)
    return np.asarray(START + odds + hits + PER_COURSE * course - unseen + plain)


def _course(rows: NDArray[Any], size_px: F64) -> tuple[F64, F64]:
    """(N,) 1 for what goes its way, 0 for what wanders on the spot or returns to it, -STILL for what does not stir at all."""
    flow, way = rows["flow"], length_of(rows["smooth"] - rows["anchor"])
    of_late = np.hypot(flow[:, 0], flow[:, 1]) / (rows["flow_length"] + SOFT_PX + SOFT_SHARE * size_px)
    watched = 1 - np.exp(-(rows["last_s"] - rows["birth_s"]) / STILL_S)
    watched[rows["state"] == TENTATIVE] = 1  # what was never shown is not trusted to stir yet: what flies soon does
    still = watched * np.exp(-((way / STILL_PX) ** 2))
    return np.asarray(np.maximum(of_late, np.minimum(way / FAR_PX, 1.0)) - STILL * still), np.asarray(still)


def hidden(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) known tracks about which nothing is to be said now: doubted, or expected at a place that is a mere guess."""
    guessed = (rows["state"] == COASTING) & (rows["twin"] | ~foreseen(rows))
    return np.asarray(rows["doubted"] | guessed)


def foreseen(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) whether the predicted box surely overlaps the thing: only then is it worth showing."""
    size = size_of(rows["wh"])
    return np.asarray(np.sqrt(rows["covariance"][:, 0]) <= OVERLAPS * size + 0.5 * np.maximum(size - PLAIN_PX, 0))
