"""What was found in one picture, to be printed, saved and drawn: the shape and the names of PaddleX's results.

``{"input_path", "page_index", "boxes": [{"cls_id", "label", "score", "coordinate": [xmin, ymin, xmax, ymax]}]}``; of models that
give masks, a box also has ``segmentation`` (COCO RLE of the picture) and ``polygons`` (outer outlines, px), as in frames.jsonl.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamdet.errors import OutputError
from streamdet.records import shape_of
from streamdet.types import U8, Detections, Result

__all__ = ["ImageResult"]

_WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_LONGEST_PX = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}


class ImageResult(Mapping[str, Any]):
    """Read it like a dict (``result["boxes"]``), or as arrays: ``detections`` in px of the picture, the best first.

    ``json`` is ``{"res": {...}}``, ``img`` is ``{"res": (H, W, 3) u8 BGR}``, drawn when it is first asked for.
    A picture too large to be held is drawn shrunk, to at most 4096 px; its boxes in JSON are those of the picture.
    """

    def __init__(self, result: Result, *, input_path: str | None, page_index: int | None) -> None:
        self._result = result
        self.input_path = input_path
        self.page_index = page_index
        found = result.detections
        rows = zip(found.label.tolist(), found.score.tolist(), found.xyxy.tolist())
        self.boxes: list[dict[str, Any]] = [
            {
                "cls_id": label,
                "label": result.label_name(label),
                "score": score,
                "coordinate": box,
                **msgspec.to_builtins(shape_of(result, row)),
            }
            for row, (label, score, box) in enumerate(rows)
        ]

    @property
    def detections(self) -> Detections:
        return self._result.detections

    @property
    def labels(self) -> tuple[str, ...]:
        return self._result.labels

    @property
    def wh(self) -> tuple[int, int]:
        """Width and height of the picture in px."""
        return self._result.frame.wh

    @property
    def tiles(self) -> int:
        """How many tiles were looked at."""
        return 0 if self._result.tiles is None else self._result.tiles.slots

    @property
    def json(self) -> dict[str, dict[str, Any]]:
        return {"res": dict(self)}

    @property
    def img(self) -> dict[str, U8]:
        return {"res": self.annotated()}

    def annotated(self) -> U8:
        """(h, w, 3) u8 BGR with boxes and names."""
        return self._result.annotated()

    def print(self, format_json: bool = True, indent: int = 4, ensure_ascii: bool = False) -> None:
        """To standard output, as JSON or (``format_json=False``) as Python would show it, on one line."""
        text = _text(self.json, indent, ensure_ascii) if format_json else str(self.json)
        sys.stdout.write(f"{text}\n")

    def save_to_json(self, save_path: str | os.PathLike[str], indent: int = 4, ensure_ascii: bool = False) -> Path:
        """To a file that ends in .json, or into a folder as ``<stem>_res.json`` (page 3 of a PDF: ``<stem>_3_res.json``).

        Returns where it went. Raises OutputError.
        """
        path = self._place(save_path, ".json", (".json",))
        self._write(path, _text(dict(self), indent, ensure_ascii).encode() + b"\n")
        return path

    def save_to_img(self, save_path: str | os.PathLike[str]) -> Path:
        """To a file that ends like an image, or into a folder as ``<stem>_res`` with the ending of the source (or .png).

        Returns where it went. Raises OutputError.
        """
        import cv2

        own = self._suffix()
        path = self._place(save_path, own if own in _WRITABLE else ".png", tuple(_WRITABLE))
        picture = self.annotated()
        if max(picture.shape[:2]) > _LONGEST_PX.get(path.suffix.lower(), 1 << 30):
            path = path.with_suffix(".png")
        done, data = cv2.imencode(path.suffix.lower(), picture)
        if not done:
            raise OutputError(f"cannot encode {path}: OpenCV refused a {picture.shape[1]}x{picture.shape[0]} picture")
        self._write(path, np.asarray(data).tobytes())
        return path

    def _suffix(self) -> str:
        return Path(self._result.frame.name or "").suffix.lower()

    def _place(self, save_path: str | os.PathLike[str], suffix: str, files: tuple[str, ...]) -> Path:
        path = Path(save_path)
        if path.suffix.lower() in files and not os.path.isdir(path):
            return path
        stem = re.sub(r"[\\/:]", "-", Path(self._result.frame.name or "array").stem) or "array"
        page = "" if self.page_index is None else f"_{self.page_index}"
        return path / f"{stem}{page}_res{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another path") from None

    def __getitem__(self, key: str) -> Any:
        if key not in ("input_path", "page_index", "boxes"):
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(("input_path", "page_index", "boxes"))

    def __len__(self) -> int:
        return 3

    def __repr__(self) -> str:
        page = "" if self.page_index is None else f"[{self.page_index}]"
        return f"ImageResult({self.input_path or 'array'}{page}, {len(self.boxes)} boxes)"


def _text(tree: dict[str, Any], indent: int, ensure_ascii: bool) -> str:
    text = json.dumps(tree, indent=indent, ensure_ascii=ensure_ascii)
    if text.isascii() or not re.search("[\ud800-\udfff]", text):
        return text
    return json.dumps(tree, indent=indent)  # a file name that is no UTF-8 can only be escaped
