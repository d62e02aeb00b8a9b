"""A contact sheet of training tiles: as they are, as a mosaic of four, and turned; boxes drawn, so mistakes can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.draw.canvas import Text, colour_of
from streamdet.types import U8

__all__ = ["Example", "contact_sheet", "mosaic", "rotate"]

F64 = NDArray[np.float64]
_CELL, _COLUMNS, _GAP, _MARGIN = 220, 6, 8, 20
_BACK, _INK, _GREY = (24, 21, 19), (235, 232, 228), (150, 146, 140)  # BGR
_PAD = 114  # grey of what no picture covers, as in training


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A tile and its N boxes in px; ``crowd``: regions that do not count."""

    picture: U8
    boxes: F64
    label: NDArray[np.int64]
    crowd: NDArray[np.bool_]


def mosaic(examples: Sequence[Example], side: int, centre: tuple[int, int]) -> Example:
    """Four tiles round `centre` in a square of `side` px, as YOLO trainers do it; boxes are cut, those that vanish are gone."""
    out = np.full((side, side, 3), _PAD, np.uint8)
    boxes, labels, crowds = [], [], []
    for number, one in enumerate(examples[:4]):
        height, width = one.picture.shape[:2]
        # the tile's corner nearest to the centre lies on it
        x = centre[0] - width if number % 2 == 0 else centre[0]
        y = centre[1] - height if number < 2 else centre[1]
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + width, side), min(y + height, side)
        if x1 >= x2 or y1 >= y2:
            continue
        out[y1:y2, x1:x2] = one.picture[y1 - y : y2 - y, x1 - x : x2 - x]
        moved = one.boxes + np.array([x, y, x, y])
        cut = np.concatenate([moved[:, :2].clip((x1, y1), (x2, y2)), moved[:, 2:].clip((x1, y1), (x2, y2))], axis=1)
        rows = (cut[:, 2:] > cut[:, :2]).all(axis=1)
        boxes.append(cut[rows])
        labels.append(one.label[rows])
        crowds.append(one.crowd[rows])
    return Example(
        out,
        np.concatenate([*boxes, np.zeros((0, 4))]),
        np.concatenate([*labels, np.zeros(0, np.int64)]),
        np.concatenate([*crowds, np.zeros(0, np.bool_)]),
    )


def rotate(one: Example, degrees: float) -> Example:
    """`one` turned round its middle (counter-clockwise as seen); boxes become the ones round their turned corners, cut."""
    height, width = one.picture.shape[:2]
    # pixel edges: the middle of a picture of width w is w/2, of its pixel centres (w-1)/2
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    pixels = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    picture = cv2.warpAffine(one.picture, pixels, (width, height), borderValue=(_PAD, _PAD, _PAD))
    x, y = one.boxes[:, [0, 2, 2, 0]], one.boxes[:, [1, 1, 3, 3]]
    corners = np.stack([x, y, np.ones_like(x)], axis=2) @ turn.T  # (N,4,2)
    low = corners.min(axis=1, initial=np.inf).clip(0, (width, height))
    high = corners.max(axis=1, initial=-np.inf).clip(0, (width, height))
    rows = (high > low).all(axis=1)
    return Example(
        np.asarray(picture, np.uint8), np.concatenate([low, high], axis=1)[rows], one.label[rows], one.crowd[rows]
    )


def contact_sheet(examples: Sequence[Example], names: Sequence[str], *, seed: int = 0) -> U8:
    """Up to 18 tiles, 3 mosaics and 3 turned ones under each other, labelled."""
    rng = np.random.default_rng(seed)
    order = [examples[n] for n in rng.permutation(len(examples))]
    order.sort(key=lambda one: not len(one.boxes))  # what has objects tells more
    with_objects = [one for one in order if len(one.boxes)] or order
    shown = [*order[:15], *[one for one in order if not len(one.boxes)][:3]][:18]
    mosaics, turned = [], []
    for number in range(3):
        four = [with_objects[(4 * number + k) % len(with_objects)] for k in range(4)]
        side = max(four[0].picture.shape[:2])
        centre = (int(side * rng.uniform(0.35, 0.65)), int(side * rng.uniform(0.35, 0.65)))
        mosaics.append(mosaic(four, side, centre))
        turned.append(rotate(with_objects[number % len(with_objects)], float(rng.uniform(-30, 30))))
    parts = [_row_of("tiles", shown, names), _row_of("mosaic of four, and turned", [*mosaics, *turned], names)]
    return np.vstack(parts)


def _row_of(title: str, examples: Sequence[Example], names: Sequence[str]) -> U8:
    rows = -(-len(examples) // _COLUMNS)
    width = 2 * _MARGIN + _COLUMNS * (_CELL + _GAP) - _GAP
    sheet = np.full((48 + rows * (_CELL + _GAP) + _MARGIN // 2, width, 3), _BACK, np.uint8)
    Text().write(sheet, title, (_MARGIN, 32), 18, _INK)
    for number, one in enumerate(examples):
        x = _MARGIN + number % _COLUMNS * (_CELL + _GAP)
        y = 48 + number // _COLUMNS * (_CELL + _GAP)
        sheet[y : y + _CELL, x : x + _CELL] = _cell(one, names)
    return sheet


def _cell(one: Example, names: Sequence[str]) -> U8:
    height, width = one.picture.shape[:2]
    scale = min(_CELL / width, _CELL / height)
    wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(one.picture, wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    cell = np.full((_CELL, _CELL, 3), (44, 40, 36), np.uint8)
    cell[: wh[1], : wh[0]] = small
    text = Text()
    for box, label, crowd in zip((one.boxes * scale).tolist(), one.label.tolist(), one.crowd.tolist()):
        x1, y1, x2, y2 = (round(value) for value in box)
        grow = 0 if min(x2 - x1, y2 - y1) > 6 else 3  # air round what is tiny, or the mark hides it
        colour = _GREY if crowd else colour_of(label + 1)
        cv2.rectangle(cell, (x1 - grow - 1, y1 - grow - 1), (x2 + grow + 1, y2 + grow + 1), (0, 0, 0), 2)
        cv2.rectangle(cell, (x1 - grow - 1, y1 - grow - 1), (x2 + grow + 1, y2 + grow + 1), colour, 1)
        if not crowd and len(one.boxes) <= 8 and 0 <= label < len(names):
            at = (min(max(x1 - 1, 2), _CELL - 40), y1 - grow - 5 if y1 - grow > 16 else y2 + grow + 13)
            text.write(cell, text.readable(names[label], str(label)), (at[0] + 1, at[1] + 1), 11, (0, 0, 0))
            text.write(cell, text.readable(names[label], str(label)), at, 11, colour)
    return cell
