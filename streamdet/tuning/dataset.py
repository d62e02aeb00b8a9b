"""Labelled pictures, read from COCO and YOLO folders and written in both forms.

COCO: a label JSON; its pictures lie beside it, in ``images/``, or in a folder that is given. YOLO: a ``data.yaml`` (Ultralytics:
``path``, ``train``, ``val``, ``test``, ``names``), or a folder with ``images/`` and ``labels/`` (and ``classes.txt``); a label
line is ``class cx cy w h``, shares of the picture; polygons (segmentation) become the boxes round them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.errors import ConfigError
from streamdet.scoring.coco import is_coco, read_coco_truth
from streamdet.types import U8

__all__ = ["DataSet", "LabelledPicture", "is_dataset", "picture_wh", "read_dataset", "read_picture", "write_coco"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_MOST_CLASSES = 100_000
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPicture:
    """One picture and its N boxes. ``crowd`` (N,): regions of many, not to be counted; ``wh`` None: not known before reading."""

    path: Path
    xyxy: F64
    label: I64
    crowd: NDArray[np.bool_]
    wh: tuple[int, int] | None = None
    split: str = "train"
    relative: bool = False  # boxes are still shares of the picture

    def in_px(self, wh: tuple[int, int]) -> F64:
        """(N,4) boxes in px of a picture of `wh`."""
        return self.xyxy * np.array([*wh, *wh]) if self.relative else self.xyxy


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """All pictures; ``names`` by class number; ``kind`` "coco" or "yolo"; ``ids``: COCO's category ids by class number."""

    names: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]
    kind: str
    ids: tuple[int, ...] = ()

    def sizes(self) -> F64:
        """(N,2) width and height in px of every box that counts, and nothing about where it is."""
        rows = []
        for picture in self.pictures:
            wh = picture.wh or picture_wh(picture.path)
            boxes = picture.in_px(wh)[~picture.crowd]
            rows.append(boxes[:, 2:] - boxes[:, :2])
        return np.concatenate([*rows, np.zeros((0, 2))])


def read_picture(path: Path) -> U8:
    """The picture at `path`, BGR, upright. Raises ConfigError."""
    try:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV takes
        picture = None
    if picture is None:
        raise ConfigError(
            f"the picture {path} cannot be read: it is missing, damaged or too large; take it out of the data set"
        )
    return np.asarray(picture, np.uint8)


def picture_wh(path: Path) -> tuple[int, int]:
    height, width = read_picture(path).shape[:2]
    return width, height


def read_dataset(source: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None) -> DataSet:
    """Read a COCO label JSON (pictures in `images`), a YOLO ``data.yaml`` or a YOLO folder. Raises ConfigError."""
    path = Path(source)
    if path.is_dir():
        for name in ("data.yaml", "dataset.yaml"):
            if (path / name).is_file():
                return _yolo_yaml(path / name)
        return _yolo_folder(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _yolo_yaml(path)
    if is_coco(path):
        return _coco(path, None if images is None else Path(images))
    raise ConfigError(
        f"{path} is no data set; give a COCO label .json, a YOLO data.yaml, or a folder with images/ and labels/"
    )


def is_dataset(source: str | os.PathLike[str]) -> bool:
    """Whether `source` is labelled pictures rather than a clip or plain pictures."""
    path = Path(source)
    if path.is_dir():
        named = any((path / name).is_file() for name in ("data.yaml", "dataset.yaml"))
        return named or ((path / "images").is_dir() and (path / "labels").is_dir())
    return path.suffix.lower() in (".yaml", ".yml") or is_coco(path)


def write_coco(data: DataSet, path: Path) -> None:
    """Write the labels of `data` as a COCO file in which pictures have their full names. Raises ConfigError, OSError."""
    tree: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n, "name": name} for n, name in enumerate(data.names, 1)],
    }
    for number, one in enumerate(data.pictures, 1):
        wh = one.wh or picture_wh(one.path)
        tree["images"].append({"id": number, "file_name": str(one.path), "width": wh[0], "height": wh[1]})
        for box, label, crowd in zip(one.in_px(wh).tolist(), one.label.tolist(), one.crowd.tolist()):
            xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            row = {"image_id": number, "category_id": label + 1, "bbox": xywh, "iscrowd": int(crowd)}
            tree["annotations"].append({"id": len(tree["annotations"]) + 1, **row})
    path.write_text(json.dumps(tree), encoding="utf-8")


# ----------------------------------------------------------------------------------------------------------------- COCO


def _coco(path: Path, images: Path | None) -> DataSet:
    truth = read_coco_truth(path)
    root = path.parent.parent  # of annotations/instances_val2017.json: pictures in val2017/ or images/val2017/
    split = path.stem.rpartition("_")[2]
    beside = [path.parent, path.parent / "images", root, root / "images", root / split, root / "images" / split]
    folders = [images] if images is not None else beside
    ids = [category.id for category in sorted(truth.categories, key=lambda one: one.id)]
    number = {kind: n for n, kind in enumerate(ids)}
    name = {category.id: category.name or str(category.id) for category in truth.categories}
    rows: dict[int, list[Any]] = {picture.id: [] for picture in truth.images}
    for row in truth.annotations:
        rows[row.image_id].append(row)
    pictures = []
    for one in truth.images:
        places = [folder / one.file_name for folder in folders]
        box = np.array([row.bbox for row in rows[one.id]], np.float64).reshape(-1, 4)
        pictures.append(
            LabelledPicture(
                path=next((place for place in places if place.is_file()), places[0]),
                xyxy=np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]),
                label=np.array([number[row.category_id] for row in rows[one.id]], np.int64),
                crowd=np.array([bool(row.iscrowd) for row in rows[one.id]], np.bool_),
                wh=(one.width, one.height) if one.width and one.height else None,
            )
        )
    return DataSet(tuple(name[kind] for kind in ids), tuple(pictures), "coco", tuple(ids))


# ----------------------------------------------------------------------------------------------------------------- YOLO


def _yolo_yaml(path: Path) -> DataSet:
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("names"), list | dict):
        raise ConfigError(f"{path} has no `names`; a YOLO data.yaml names its classes: names: [ball, bird]")
    listed = _class_names(tree["names"], path)
    root = Path(str(tree.get("path") or "."))
    root = root if root.is_absolute() else path.parent / root
    pictures: list[LabelledPicture] = []
    seen: set[str] = set()  # a set without validation pictures names those of training twice
    for split in ("train", "val", "test"):
        places = tree.get(split)
        for place in places if isinstance(places, list) else [places] if places else []:
            pictures += [] if str(place) in seen else _yolo_pictures(root / str(place), split)
            seen.add(str(place))
    if not pictures:
        raise ConfigError(f"{path} leads to no pictures: its train, val and test are looked for under {root}")
    return DataSet(tuple(listed), tuple(pictures), "yolo")


def _yolo_folder(path: Path) -> DataSet:
    folder = path / "images"
    if not folder.is_dir():
        raise ConfigError(
            f"the folder {path} has no images/; give a YOLO folder with images/ and labels/, or a COCO label .json"
        )
    splits = [one.name for one in sorted(folder.iterdir()) if one.is_dir() and one.name in ("train", "val", "test")]
    pictures = [one for split in splits for one in _yolo_pictures(folder / split, split)]
    pictures = pictures or list(_yolo_pictures(folder, "train"))
    if not pictures:
        raise ConfigError(f"the folder {folder} holds no pictures ({', '.join(PICTURES)})")
    listed = path / "classes.txt"
    names = [line.strip() for line in _text(listed).splitlines() if line.strip()] if listed.is_file() else []
    most = max((int(one.label.max()) for one in pictures if len(one.label)), default=-1)
    names += [f"class {n}" for n in range(len(names), most + 1)]
    return DataSet(tuple(names), tuple(pictures), "yolo")


def _yolo_pictures(folder: Path, split: str) -> Iterable[LabelledPicture]:
    """Pictures under `folder` (or listed in it, one path a line), each with its labels."""
    if folder.is_file():
        lines = [line.strip() for line in _text(folder).splitlines() if line.strip()]
        paths = [Path(line) if Path(line).is_absolute() else folder.parent / line for line in lines]
    elif folder.is_dir():
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    else:
        raise ConfigError(f"the pictures {folder} of split {split} do not exist; correct the data set's paths")
    for path in paths:
        yield _yolo_labels(path, split)


def _yolo_labels(path: Path, split: str) -> LabelledPicture:
    """Labels lie where the picture does, with the last ``images`` of the path replaced by ``labels``."""
    parts = list(path.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    file = Path(*parts).with_suffix(".txt")
    rows: list[tuple[int, list[float]]] = []
    for number, line in enumerate(_text(file).splitlines() if file.is_file() else [], 1):
        if not line.strip():
            continue
        try:
            kind, *values = [float(value) for value in line.split()]
            if not np.isfinite(values).all() or not 0 <= kind < _MOST_CLASSES:
                raise ValueError(line)
            rows.append((int(kind), _yolo_box(values)))
        except ValueError:
            raise ConfigError(
                f"labels {file} line {number}: '{line.strip()[:60]}' does not fit `class cx cy w h`"
            ) from None
    return LabelledPicture(
        path=path,
        xyxy=np.array([box for _, box in rows], np.float64).reshape(-1, 4),
        label=np.array([kind for kind, _ in rows], np.int64),
        crowd=np.zeros(len(rows), np.bool_),
        split=split,
        relative=True,
    )


def _text(file: Path) -> str:
    """Raises ConfigError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is not text'}") from None


def _class_names(names: Any, path: Path) -> list[str]:
    """Of a list, or of a table whose keys are class numbers; numbers left out are called by themselves."""
    if isinstance(names, list):
        return [str(name) for name in names]
    if not names or not all(isinstance(n, int) and 0 <= n < _MOST_CLASSES for n in names):
        raise ConfigError(f"{path}: `names` needs class numbers from 0 as its keys: names: {{0: ball, 1: bird}}")
    return [str(names.get(n, n)) for n in range(max(names) + 1)]


def _yolo_box(values: list[float]) -> list[float]:
    if len(values) == 4:
        x, y, w, h = values
        return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(values)
    return [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
