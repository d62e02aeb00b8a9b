"""Real clips as material: windows of frames with what is labelled in them. Which clips may be used, and how, is decided here.

Shipped weights see: all of `train_air` (CC0) with labels, except every tenth clip, held out for validation; of the tennis,
pedestrian, car and people clips only the *first part*, as background and negatives (what is near the tennis ball is ignored).
Badminton is never opened.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ROW", "Footage", "Window", "air_clips", "background_clips", "read_air_labels", "read_window", "tighten"]

ROW = 8  # cx, cy, w, h (px; w = 0: size unknown), dx, dy (streak, px), label (-1: unknown), counts (0: to be ignored)
_LABELS = {"DRONE": 2, "BIRD": 1, "AIRPLANE": 3, "HELICOPTER": 3, "ball": 0, "bird": 1, "drone": 2, "plane": 3}
_HELD_OUT = 10
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Footage:
    """A clip whose first `frames` may be used; `truth` per frame (None: it holds no target). `labelled_only`: a frame without
    truth may hold an unlabelled target and is not trained on."""

    path: Path
    frames: int
    truth: dict[int, F32] | None
    labelled_only: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive frames: pictures (BGR), truth rows of each, and whether the frame may be trained on."""

    pictures: list[U8]
    truth: list[F32]
    trusted: list[bool]


def read_air_labels(path: Path) -> dict[int, F32]:
    """``frame,class,x,y,w,h`` (loose boxes) -> truth rows; sizes are left unknown until `tighten`."""
    rows: dict[int, F32] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            x, y, w, h = (float(row[key]) for key in "xywh")
            label = _LABELS.get(row["class"], -1)
            one = np.array([[x + w / 2, y + h / 2, w, h, 0, 0, label, 1]], np.float32)
            frame = int(row["frame"])
            rows[frame] = np.concatenate([rows[frame], one]) if frame in rows else one
    return rows


def air_clips(root: Path, *, held_out: bool) -> list[Footage]:
    """Clips of `train_air`: the tenth that is held out, or the rest."""
    found = []
    for index, path in enumerate(sorted((root / "train_air").glob("*.mp4"))):
        if (index % _HELD_OUT == 0) == held_out:
            truth = read_air_labels(path.with_suffix(".csv"))
            found.append(Footage(path, max(truth) + 1, truth))
    return found


def background_clips(root: Path) -> list[Footage]:
    """First parts of clips without a small flying object, and of the tennis clip with the ball's surroundings ignored."""
    clips = root / "clips"
    tennis: dict[int, F32] = {}
    with (clips / "tennis_amateur" / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            x, y, w, h = (float(row[key] or 0) for key in "xywh")
            tennis[int(row["frame"])] = np.array([[x + w / 2, y + h / 2, 60, 60, 0, 0, -1, 0]], np.float32)
    return [
        Footage(clips / "tennis_amateur" / "clip.mp4", 60, tennis, labelled_only=True),
        Footage(clips / "pedestrians" / "vtest_480x360.avi", 320, None),
        Footage(clips / "cars" / "car-detection.mp4", 150, None),
        Footage(clips / "people" / "one-by-one-person-detection.mp4", 560, None),
    ]


def read_window(footage: Footage, first: int, count: int) -> Window:
    """`count` frames from `first` (fewer at the end)."""
    pictures: list[U8] = []
    truth: list[F32] = []
    trusted: list[bool] = []
    empty = np.zeros((0, ROW), np.float32)
    with av.open(str(footage.path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index < first:
                continue
            if index >= min(first + count, footage.frames):
                break
            pictures.append(frame.to_ndarray(format="bgr24"))
            rows = (footage.truth or {}).get(index)
            truth.append(empty if rows is None else rows)
            trusted.append(rows is not None or not footage.labelled_only)
    return Window(pictures, truth, trusted)


def tighten(luma: U8, background: U8 | None, rows: F32) -> F32:
    """Loose boxes -> tight ones, by the blob of contrast in the middle of each; size 0 where there is no clear blob.

    A centre is moved only onto a blob that stands out clearly and lies in the middle half of its box.
    """
    rows = rows.copy()
    for row in rows:
        if row[7] == 0 or row[2] <= 0:
            continue
        cx, cy, w, h = row[:4]
        x1, y1 = max(0, int(cx - w / 2 - 3)), max(0, int(cy - h / 2 - 3))
        part = luma[y1 : int(cy + h / 2 + 4), x1 : int(cx + w / 2 + 4)].astype(np.float32)
        row[2:4] = 0
        if min(part.shape) < 7:
            continue
        border = np.concatenate([part[:2].ravel(), part[-2:].ravel(), part[:, :2].ravel(), part[:, -2:].ravel()])
        spread = float(np.median(np.abs(border - np.median(border)))) * 1.48 + 1.0
        away = np.abs(part - np.median(border))
        if background is not None:
            moved = np.abs(part - background[y1 : y1 + part.shape[0], x1 : x1 + part.shape[1]])
            away = np.maximum(away, moved) if spread < 6 else moved
        top = float(away.max())
        if top < max(14.0, 4.5 * spread):
            continue
        count, names, stats, centres = cv2.connectedComponentsWithStats(
            (away > 0.42 * top).astype(np.uint8), connectivity=8
        )
        offset = np.hypot(centres[1:, 0] + 0.5 - (cx - x1), centres[1:, 1] + 0.5 - (cy - y1))
        inside = offset < 0.3 * min(w, h) + 1
        if count < 2 or not inside.any():
            continue
        strength = np.array([away[names == k].sum() for k in range(1, count)]) * inside
        best = int(np.argmax(strength)) + 1
        if strength[best - 1] < 0.6 * sum(away[names == k].sum() for k in range(1, count)):
            continue
        left, top_px, wide, tall = stats[best, :4]
        row[:4] = x1 + left + wide / 2, y1 + top_px + tall / 2, wide, tall
    return rows
