"""COCO results: ``[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ...]``, as ``loadRes`` reads it.

Format: https://cocodataset.org/#format-results. The closing bracket is written with every frame and overwritten by the
next one, so the file is a whole JSON array at any moment, also when the process is killed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from streamdet.errors import OutputError
from streamdet.masks import coco_rle
from streamdet.sinks.linefile import LineFile
from streamdet.types import Event, Frame, Result

__all__ = ["CocoSink"]

_END = b"\n]\n"


class CocoSink:
    """Writes every merged detection of every frame.

    Args:
        target: file; not stdout, which cannot be overwritten.
        image_ids: file name or stem of a still -> its id in the data set. Without it a stem of digits is the id (as in COCO
            itself), and otherwise the frame index is. A frame of a video always has its index.
        category_ids: class id of the model -> category id of the data set; None: the class id itself.

    Raises OutputError when the file cannot be written.
    """

    lossy = False

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        image_ids: Mapping[str, int] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        if os.fspath(target) == "-":
            raise OutputError("COCO results cannot go to stdout; give a file name")
        self._file = LineFile(target)
        self._image_ids = image_ids or {}
        self._category_ids = category_ids
        self._any = False

    def __enter__(self) -> Self:
        self._file.open()
        self._file.write(b"[" + _END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._file.close()

    def write(self, result: Result) -> None:
        entries = self._entries(result)
        if not entries:
            return
        lines = b",\n".join(msgspec.json.encode(entry) for entry in entries)
        self._file.write((b",\n" if self._any else b"\n") + lines + _END, over=len(_END))
        self._any = True

    def finish(self, events: tuple[Event, ...]) -> None:
        """Nothing: the format has no events."""

    def _entries(self, result: Result) -> list[dict[str, Any]]:
        found = result.detections
        found = found[np.isfinite(found.xyxy).all(axis=1) & np.isfinite(found.score)]
        box = found.xyxy.astype(np.float64)
        rows = np.round(np.hstack([box[:, :2], box[:, 2:] - box[:, :2]]), 2).tolist()
        image = self._image_id(result.frame)
        name = {} if result.frame.name is None else {"file_name": result.frame.name}
        masks = [None] * len(found) if found.masks is None else found.masks.tolist()
        wh = result.frame.wh
        return [
            {
                "image_id": image,
                "category_id": self._category(label),
                "bbox": row,
                "score": round(score, 5),
                **({} if mask is None else {"segmentation": coco_rle(mask, wh)}),
                **name,
            }
            for label, row, score, mask in zip(found.label.tolist(), rows, found.score.tolist(), masks)
        ]

    def _image_id(self, frame: Frame) -> int:
        if frame.name is None:
            return frame.index
        stem = Path(frame.name).stem
        for name in (frame.name, stem):
            if name in self._image_ids:
                return self._image_ids[name]
        return int(stem) if stem.isascii() and stem.isdigit() else frame.index

    def _category(self, label: int) -> int:
        if self._category_ids is None or not 0 <= label < len(self._category_ids):
            return label
        return self._category_ids[label]
