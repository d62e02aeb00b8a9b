"""Which candidates have earned it to be known: enough hits that are no coincidence, and a way, a score, or time on their side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.config import TrackerConfig
from streamdet.tracking import belief
from streamdet.tracking.pairing import length_of, size_of
from streamdet.types import TENTATIVE

__all__ = ["is_worthy"]

EVIDENCE = (
    8.0  # log odds a candidate has to collect, e.g. from two hits just where they were predicted in a quiet scene
)
EVIDENCE_FIRM = 3.0  # ... and one that is small and firmly believed
LASTING_S = 1.0  # a thing that is not small, and was there for so long, in `confirm_hits` looks at least, ...
LASTING_SHARE = 0.75  # ... is known though it scores only so much of `confirm_score`: it need not move


def is_worthy(
    rows: NDArray[Any], config: TrackerConfig, *, now_s: float, doubts: bool, wary: float
) -> NDArray[np.bool_]:
    """(N,) of all tracks. `doubts`: small things have to be believed, too; `wary`: by so much more than by an even chance."""
    size = size_of(rows["wh"])
    way = length_of(rows["smooth"] - rows["birth"])
    # One outlier among hits on the spot is a step, not a way: the way must be longer than its longest step.
    straight = length_of(rows["last"] - rows["birth"])
    moved = (way >= np.maximum(config.confirm_move_px, 0.25 * size)) & (straight >= 1.25 * rows["longest_step"])
    sure = rows["score_sum"] >= config.confirm_score * rows["hits"]
    if not doubts:
        lasting = (now_s - rows["birth_s"] >= LASTING_S) & (rows["looks"] >= config.confirm_hits)
        fairly = rows["score_sum"] >= LASTING_SHARE * config.confirm_score * rows["hits"]
        sure |= lasting & fairly & (size >= belief.PLAIN_PX)
    proven = rows["evidence"] >= (EVIDENCE if config.confirm_hits > 1 else -np.inf)
    candidate = (rows["state"] == TENTATIVE) & (rows["detection_row"] >= 0)
    worthy = candidate & (rows["hits"] >= config.confirm_hits) & proven & (moved | sure)
    if doubts and candidate.any():
        believed = belief.belief(rows, now_s - rows["last_s"]) - wary
        firm = (believed >= belief.FIRM) & (rows["evidence"] >= EVIDENCE_FIRM) & (size < belief.PLAIN_PX)
        firm &= rows["hits"] >= max(2, config.confirm_hits - 1)
        worthy = (worthy & (believed >= belief.FOUND)) | (candidate & firm)
    return np.asarray(worthy)
