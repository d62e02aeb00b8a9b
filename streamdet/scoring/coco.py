"""COCO labels and results as they are scored: label JSON, results JSON, and our own frames.jsonl put on the same pictures.

Formats: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamdet.errors import ConfigError
from streamdet.scoring.labels import Found, Labels, Number
from streamdet.scoring.pairing import DISTRACTORS

__all__ = ["BoxResult", "CocoTruth", "as_points", "is_coco", "read_coco_results", "read_coco_truth", "video_truth"]

_Box = tuple[float, float, float, float]


class Picture(msgspec.Struct):
    id: Number
    file_name: str = ""
    width: int = 0
    height: int = 0


class Category(msgspec.Struct):
    id: Number
    name: str = ""


class Annotation(msgspec.Struct):
    """``bbox`` [x, y, width, height] px; ``area`` px^2 (of the mask, where there is one; else of the box)."""

    image_id: Number
    category_id: Number
    bbox: _Box
    area: float | None = None
    iscrowd: int = 0
    id: int = 0


class CocoTruth(msgspec.Struct):
    """A label file; unknown keys are passed over."""

    images: list[Picture]
    annotations: list[Annotation]
    categories: list[Category]


class BoxResult(msgspec.Struct):
    """One box somebody claims. ``file_name``: which picture, where the ids are not those of the labels."""

    image_id: Number
    category_id: Number
    bbox: _Box
    score: float
    file_name: str | None = None


def is_coco(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is JSON (a label file of COCO), told by its first sign."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and not os.fspath(path).endswith(".jsonl")
    except OSError:
        return False


def read_coco_truth(path: str | os.PathLike[str]) -> CocoTruth:
    """Read a label JSON. Raises ConfigError."""
    truth: CocoTruth = _decoded(path, CocoTruth, "COCO labels (images, annotations, categories)")
    known, classes = {p.id for p in truth.images}, {c.id for c in truth.categories}
    if len(known) < len(truth.images) or len(classes) < len(truth.categories):
        raise ConfigError(f"labels {path}: two images or two categories have the same id; export the data set again")
    for number, annotation in enumerate(truth.annotations, 1):
        annotation.id = number  # unique, and never 0, which the scorer takes for "unmatched"
        if annotation.image_id not in known or annotation.category_id not in classes:
            raise ConfigError(
                f"labels {path}: annotation {number} names image {annotation.image_id}, category {annotation.category_id}, "
                "and one of them is not listed; export the data set again"
            )
    return truth


def read_coco_results(path: str | os.PathLike[str]) -> list[BoxResult]:
    """Read a results JSON (a list). Raises ConfigError."""
    results: list[BoxResult] = _decoded(
        path, list[BoxResult], "COCO results (a list of image_id, category_id, bbox, score)"
    )
    return results


def _decoded(path: str | os.PathLike[str], kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a file of {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no file of {what}: {error}") from None


@dataclass(slots=True)
class Matched:
    """Results on the pictures and categories of the labels, and what could not be put there."""

    results: list[BoxResult]
    unknown_images: int = 0
    unknown_labels: dict[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        said = []
        if self.unknown_images:
            said.append(f"{self.unknown_images} objects are on pictures without labels; they were left out")
        if self.unknown_labels:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(self.unknown_labels.items()))
            said.append(f"objects of classes the labels do not have were left out: {names}")
        return said


def on_pictures(results: list[BoxResult], truth: CocoTruth) -> Matched:
    """Keep `results` on the pictures of `truth`. Raises ConfigError if their category ids are not those of the labels."""
    classes, images = {c.id for c in truth.categories}, {p.id for p in truth.images}
    strange = sorted({row.category_id for row in results} - classes)
    if strange and not classes:
        raise ConfigError("the labels have no categories, so no result can be one; export the data set again")
    if strange:
        raise ConfigError(
            f"the results hold category {strange[0]}, which the labels do not have (theirs: {min(classes)} to {max(classes)}); "
            "give the frames.jsonl of the run, whose classes have names"
        )
    kept = [row for row in results if row.image_id in images]
    return Matched(kept, len(results) - len(kept))


def only_pictures(truth: CocoTruth, found: Found, span: tuple[int, int | None]) -> CocoTruth:
    """`truth` without the pictures that are none of the frames of `span` that the run processed."""
    end = np.inf if span[1] is None else span[1]
    kept = {image for frame, image in _images(found, truth).items() if image is not None and span[0] <= frame < end}
    return CocoTruth(
        [picture for picture in truth.images if picture.id in kept],
        [row for row in truth.annotations if row.image_id in kept],
        truth.categories,
    )


def _images(found: Found, truth: CocoTruth) -> dict[int, int | None]:
    """The picture each frame shows: by file name, else the frame's number is the picture's id; None: not in the labels."""
    by_name = {
        key: p.id for p in truth.images for key in (Path(p.file_name).stem, Path(p.file_name).name, p.file_name) if key
    }
    ids = {p.id for p in truth.images}
    image_of: dict[int, int | None] = {}
    for frame in found.frames.tolist():
        name = found.pictures.get(frame)
        if name is None:
            image_of[frame] = frame if frame in ids else None
        else:
            keys = (name, Path(name).name, Path(name).stem)
            image_of[frame] = next((by_name[key] for key in keys if key in by_name), None)
    return image_of


def found_on_pictures(found: Found, truth: CocoTruth) -> Matched:
    """The objects of a run on the pictures of `truth`: by file name, else the frame's number is the picture's id."""
    image_of = _images(found, truth)
    classes = {c.name.casefold(): c.id for c in truth.categories}
    matched = Matched([])
    for frame, name, box, score in zip(
        found.frame.tolist(), found.name.tolist(), found.xyxy.tolist(), found.score.tolist()
    ):
        image = image_of.get(frame)
        category = classes.get(name.casefold())
        if image is None:
            matched.unknown_images += 1
        elif category is None:
            matched.unknown_labels[name] = matched.unknown_labels.get(name, 0) + 1
        else:
            matched.results.append(
                BoxResult(image, category, (box[0], box[1], box[2] - box[0], box[3] - box[1]), score)
            )
    return matched


def video_truth(
    found: Found, labels: Labels, *, others: Collection[str] | None = None, one_class: bool = False
) -> tuple[CocoTruth, Matched, bool]:
    """Boxes of a clip as COCO sees them; the last value: whether classes are told apart.

    Invisible rows and rows of `others` become crowds: an object mostly on one is neither right nor wrong. Classes are
    told apart if any name of the labels occurs among the objects; else (and with `one_class`) everything is one class.
    """
    if others is None:
        others = DISTRACTORS if labels.format == "truth" else ()
    objects = np.flatnonzero((found.state != "tentative") & np.isin(found.frame, labels.frames))
    names = [name.casefold() for name in labels.name.tolist()]
    wanted = {name for name, visible in zip(names, labels.visible.tolist()) if visible and name not in others}
    by_class = (
        not one_class and labels.format != "mot" and bool(wanted & {name.casefold() for name in found.name.tolist()})
    )
    classes = {name: number for number, name in enumerate(sorted({*names} - {*others}) if by_class else ["object"], 1)}
    truth = CocoTruth(
        images=[Picture(frame) for frame in labels.frames.tolist()],
        annotations=[],
        categories=[Category(number, name) for name, number in classes.items()],
    )
    for row, name in enumerate(names):
        width, height = labels.wh[row].tolist()
        x, y = (labels.centre[row] - labels.wh[row] / 2).tolist()
        ignored = name in others or not labels.visible[row]
        if min(width, height) <= 0:
            continue
        category = [classes.get(name, 1)] if not ignored or not by_class else list(classes.values())
        for number in category if by_class else [1]:
            entry = Annotation(int(labels.frame[row]), number, (x, y, width, height), width * height, int(ignored))
            entry.id = len(truth.annotations) + 1
            truth.annotations.append(entry)
    matched = Matched([])
    for row in objects.tolist():
        name = str(found.name[row]).casefold() if by_class else "object"
        if name not in classes:
            matched.unknown_labels[name] = matched.unknown_labels.get(name, 0) + 1
            continue
        x1, y1, x2, y2 = found.xyxy[row].tolist()
        box = (x1, y1, x2 - x1, y2 - y1)
        matched.results.append(BoxResult(int(found.frame[row]), classes[name], box, float(found.score[row])))
    return truth, matched, by_class


def as_points(truth: CocoTruth, results: list[BoxResult]) -> tuple[Found, Labels]:
    """The same as columns, a picture being a frame (numbered in the order of their ids): what the point score reads."""
    frame_of = {image: number for number, image in enumerate(sorted(p.id for p in truth.images))}
    name_of = {c.id: c.name for c in truth.categories}
    rows = sorted(truth.annotations, key=lambda row: row.image_id)
    boxes = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    labels = Labels(
        frames=np.arange(len(frame_of)),
        frame=np.array([frame_of[row.image_id] for row in rows], np.int64),
        id=np.full(len(rows), -1),
        name=np.array([name_of[row.category_id] for row in rows], np.str_),
        centre=boxes[:, :2] + boxes[:, 2:] / 2,
        wh=boxes[:, 2:],
        visible=np.array([not row.iscrowd for row in rows], np.bool_),
        format="boxes",
    )
    claimed = np.array([row.bbox for row in results], np.float64).reshape(-1, 4)
    found = Found(
        frames=np.arange(len(frame_of)),
        pts_s=np.zeros(len(frame_of)),
        frame=np.array([frame_of[row.image_id] for row in results], np.int64),
        track=np.zeros(len(results), np.int64),
        score=np.array([row.score for row in results], np.float64),
        xyxy=np.hstack([claimed[:, :2], claimed[:, :2] + claimed[:, 2:]]),
        name=np.array([name_of[row.category_id] for row in results], np.str_),
        state=np.array([""] * len(results), np.str_),
    )
    return found, labels
