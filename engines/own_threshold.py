"""The threshold of a fine-tuned network, from labelled frames of the user's clip that it was not trained on.

Training on one clip makes a network surer of itself than the one it starts from; with that one's threshold it shows more that
is false. Gain and bias of the score stay: a few frames are too few to fit them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engines.operating import THRESHOLDS, observe, score_at
from streamdet.config import ModelConfig
from streamdet.detectors.network import open_detector
from streamdet.scoring import Labels

__all__ = ["FEWEST", "own_threshold"]

FEWEST = 12  # labelled frames; fewer tell nothing
_LEAD = 24  # frames before the first labelled one: background and tracks must be known
_SAME = 0.01  # of F1


def own_threshold(model: Path, clip: Path, labels: Labels, *, least: float, within_px: float) -> float:
    """The threshold, of `least` and those above it, at which tracked output over the frames of `labels` is best (F1); of those
    as good, the highest. `least` where there are too few frames or nothing is found at any.

    `clip` is read from a little before the first labelled frame to the last.
    """
    if len(labels.frames) < FEWEST:
        return least
    first, last = int(labels.frames[0]), int(labels.frames[-1])
    first_read = max(0, first - _LEAD)
    config = ModelConfig(
        name=str(model), backend="onnxruntime", threads=1, conf=0.4 * least
    )  # the tracker takes weak rows too
    with open_detector(config, model) as detector:
        seen = observe(detector, clip, "own", None, first=first_read, count=last + 1 - first_read)
    seen = replace(seen, labels=labels)
    tried = [least, *(value for value in THRESHOLDS if value > least)]
    f1 = [score_at([seen], threshold, within_px=within_px)["own"]["f1"] for threshold in tried]
    if max(f1) == 0:
        return least
    return max(threshold for threshold, value in zip(tried, f1) if value >= max(f1) - _SAME)
