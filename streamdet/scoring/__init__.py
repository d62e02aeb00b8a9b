"""The yardstick: results and truth read from files, compared as points and as tracks."""

from streamdet.scoring.labels import Found, Labels, read_frames_jsonl, read_labels, read_mot_results
from streamdet.scoring.pairing import DISTRACTORS, Pairing
from streamdet.scoring.score import Band, PointScore, TrackScore, demo_score, point_score

__all__ = [
    "DISTRACTORS",
    "Band",
    "Found",
    "Labels",
    "Pairing",
    "PointScore",
    "TrackScore",
    "demo_score",
    "point_score",
    "read_frames_jsonl",
    "read_labels",
    "read_mot_results",
]
