"""Sliced data sets on disk: pictures once, labels as YOLO and as COCO beside them, a contact sheet to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamdet.config import Config, with_values
from streamdet.errors import ConfigError, OutputError
from streamdet.tuning.dataset import DataSet, LabelledPicture, picture_wh, read_picture
from streamdet.tuning.preview import Example, contact_sheet
from streamdet.tuning.slicing import Slice, slices_of, splits_of, with_negatives
from streamdet.types import U8

__all__ = ["SliceCounts", "refuse_used", "slice_dataset"]

_PREVIEWED = 24


@dataclass(slots=True)
class SliceCounts:
    """What came of it, by split: pictures in, tiles, empty tiles among them, objects; left out: tiles with fragments only."""

    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: int = 0
    by_class: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"splits": self.splits, "tiles_left_out": self.left_out, "objects_by_class": self.by_class}


def slice_dataset(
    data: DataSet,
    folder: Path,
    *,
    tile: int | str = 640,
    overlap: float = 0.2,
    min_visible: float = 0.4,
    negatives: float = 0.2,
    shares: Mapping[str, float] | None = None,
    formats: Sequence[str] = ("yolo", "coco"),
    kind: str = "jpg",
    quality: int = 95,
    seed: int = 0,
) -> SliceCounts:
    """Write the tiles of `data` into `folder` (new or empty). `shares`: new splits; None: those the data set has.

    Raises ConfigError (a picture is missing, there are none, no such tiles), OutputError.
    """
    with_values(Config(), {"tiles.tile": tile, "tiles.overlap": overlap})
    refuse_used(folder)
    pictures = data.pictures
    if not pictures:
        raise ConfigError("the data set holds no pictures; there is nothing to cut")
    missing = next((one.path for one in pictures if not one.path.is_file()), None)
    if missing is not None:
        raise ConfigError(f"the picture {missing} does not exist; say where pictures lie with --images")
    splits = [one.split for one in pictures]
    if shares is not None:
        splits = splits_of([one.path for one in pictures], shares, seed=seed)
    counts = SliceCounts(by_class=dict.fromkeys(data.names, 0))
    examples: list[Example] = []
    try:
        for split in dict.fromkeys(splits):
            chosen = [one for one, of in zip(pictures, splits) if of == split]
            _write_split(
                data.names, chosen, folder, split, counts, examples,
                tile=tile, overlap=overlap, min_visible=min_visible, negatives=negatives, formats=formats,
                kind=kind, quality=quality, seed=seed,
            )  # fmt: skip
        if "yolo" in formats:
            _write_yaml(folder, data.names, list(dict.fromkeys(splits)))
        (folder / "slices.json").write_text(json.dumps(counts.to_dict(), indent=1) + "\n", encoding="utf-8")
        if examples:
            sheet = contact_sheet(examples, data.names, seed=seed)
            cv2.imwrite(str(folder / "preview.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from None
    return counts


def refuse_used(folder: Path) -> None:
    """Raises OutputError for a folder that holds something, or is none."""
    try:
        used = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from None
    if used:
        raise OutputError(
            f"the folder {folder} is not empty; give a new one, so that old files do not mix with new ones"
        )


def _write_split(
    names: Sequence[str], pictures: Sequence[LabelledPicture], folder: Path, split: str, counts: SliceCounts,
    examples: list[Example], *, tile: int | str, overlap: float, min_visible: float, negatives: float,
    formats: Sequence[str], kind: str, quality: int, seed: int,
) -> None:  # fmt: skip
    every: list[Slice] = []
    for picture in pictures:  # sizes first: which empty tiles are kept depends on all of them
        wh = picture.wh or picture_wh(picture.path)
        every += slices_of(picture, wh, tile=tile, overlap=overlap, min_visible=min_visible)
    kept = with_negatives(every, share=negatives, seed=seed)
    counts.left_out += sum(1 for one in every if len(one.boxes) and not one.objects)
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    if "yolo" in formats:
        labels.mkdir(parents=True, exist_ok=True)
    stems = _stems(pictures)
    coco: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
    }
    step = max(1, len(kept) // _PREVIEWED)
    shown: tuple[Path, U8] | None = None
    for number, one in enumerate(kept):
        if shown is None or shown[0] != one.picture.path:  # tiles of a picture follow each other: it is read once
            shown = one.picture.path, read_picture(one.picture.path)
        x1, y1, x2, y2 = one.xyxy
        if shown[1].shape[0] < y2 or shown[1].shape[1] < x2:
            height, width = shown[1].shape[:2]
            raise ConfigError(f"the picture {one.picture.path} is {width}x{height} px, its labels say it is larger")
        crop = np.ascontiguousarray(shown[1][y1:y2, x1:x2])
        stem = f"{stems[one.picture.path]}_{x1}_{y1}"
        name = f"{stem}.{kind}"
        if not cv2.imwrite(str(images / name), crop, [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpg" else []):
            raise OutputError(f"cannot write {images / name}; is the disk full?")
        if "yolo" in formats:
            (labels / f"{stem}.txt").write_text(_yolo_lines(one), encoding="utf-8")
        _add_coco(coco, one, f"images/{split}/{name}")
        for label in one.label[~one.crowd].tolist():
            counts.by_class[names[label]] += 1
        if number % step == 0 and len(examples) < 3 * _PREVIEWED:
            examples.append(Example(crop, one.boxes, one.label, one.crowd))
    if "coco" in formats:
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco), encoding="utf-8")
    counts.splits[split] = {
        "pictures": len(pictures),
        "tiles": len(kept),
        "empty": sum(1 for one in kept if not one.objects),
        "objects": sum(one.objects for one in kept),
    }


def _stems(pictures: Sequence[LabelledPicture]) -> dict[Path, str]:
    """A name for the tiles of each picture; pictures of one name in different folders get a number."""
    used: dict[str, int] = {}
    names: dict[Path, str] = {}
    for one in pictures:
        if one.path in names:
            continue
        count = used[one.path.stem] = used.get(one.path.stem, 0) + 1
        names[one.path] = one.path.stem if count == 1 else f"{one.path.stem}-{count}"
    return names


def _yolo_lines(one: Slice) -> str:
    size = np.array([*one.wh, *one.wh], np.float64)
    rows = []
    for (x1, y1, x2, y2), label in zip((one.boxes / size)[~one.crowd].tolist(), one.label[~one.crowd].tolist()):
        rows.append(f"{label} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(rows)


def _add_coco(coco: dict[str, Any], one: Slice, name: str) -> None:
    image = len(coco["images"]) + 1
    width, height = one.wh
    coco["images"].append({"id": image, "file_name": name, "width": width, "height": height})
    for (x1, y1, x2, y2), label, crowd in zip(one.boxes.round(3).tolist(), one.label.tolist(), one.crowd.tolist()):
        box = [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)]
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]) + 1,
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": round(box[2] * box[3], 3),
                "iscrowd": int(crowd),
            }
        )


def _write_yaml(folder: Path, names: Sequence[str], splits: Sequence[str]) -> None:
    """Ultralytics' data.yaml; `val` is `train` again where there is none, for its trainer insists on one."""
    import yaml

    tree: dict[str, Any] = {"path": str(folder.resolve())}
    tree |= {split: f"images/{split}" for split in splits}
    if "val" not in tree:
        tree["val"] = tree[splits[0]]
    tree["names"] = dict(enumerate(names))
    (folder / "data.yaml").write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
