"""Sliced data sets: every label right (against counting pixels), nothing lost, nothing leaked, both formats the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet.cli import main
from streamdet.errors import ConfigError, OutputError, UsageError
from streamdet.tuning.dataset import LabelledPicture, read_dataset
from streamdet.tuning.preview import Example, mosaic, rotate
from streamdet.tuning.slice_files import slice_dataset
from streamdet.tuning.slicing import cut_boxes, groups_of, slices_of, splits_of


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_cut_boxes_agree_with_counting_pixels(seed: int, min_visible: float) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 50, (12, 2))
    boxes = np.hstack([low, low + rng.integers(1, 30, (12, 2))]).astype(float)
    x, y = rng.integers(0, 40, 2).tolist()
    tile = (x, y, x + int(rng.integers(5, 30)), y + int(rng.integers(5, 30)))
    cut, inside, fragment = cut_boxes(boxes, tile, min_visible=min_visible)
    for row, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        sheet = np.zeros((120, 120), bool)
        sheet[y1:y2, x1:x2] = True
        seen = sheet[tile[1] : tile[3], tile[0] : tile[2]]
        share = seen.sum() / sheet.sum()
        assert inside[row] == (seen.any() and share >= min_visible - 1e-9)
        assert fragment[row] == (seen.any() and not inside[row])
        if inside[row]:
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            assert cut[row].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(64, 400), st.integers(64, 400))
def test_a_box_smaller_than_the_overlap_is_whole_in_some_tile(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    size = rng.uniform(1, 18, (10, 2))
    low = rng.uniform(0, 1, (10, 2)) * (np.array([width, height]) - size)
    boxes = np.hstack([low, low + size])
    picture = LabelledPicture(Path("x.jpg"), boxes, np.arange(10), np.zeros(10, bool))
    slices = slices_of(picture, (width, height), tile=64, overlap=20, min_visible=0.5)
    whole = set()
    for one in slices:
        x, y = one.xyxy[:2]
        for box, label in zip(one.boxes, one.label):
            assert (box >= 0).all()
            assert (box[2:] <= np.array(one.wh)).all()
            if np.allclose(box + np.array([x, y, x, y]), boxes[label]):
                whole.add(int(label))
    assert whole == set(range(10))


def scene(
    folder: Path, *, seed: int = 0, pictures: int = 6, wh: tuple[int, int] = (300, 200)
) -> tuple[list[str], list[Any]]:
    """Grey pictures on which every object is a filled rectangle of its class's colour: labels can be read off the pixels."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names, labels = [], []
    for n in range(pictures):
        picture = np.full((wh[1], wh[0], 3), 60 + n, np.uint8)
        boxes: list[tuple[int, int, int, int, int]] = []
        while len(boxes) < 4:
            w, h = rng.integers(6, 25, 2).tolist()
            x, y = int(rng.integers(0, wh[0] - w)), int(rng.integers(0, wh[1] - h))
            if all(x > b[2] + 2 or x + w + 2 < b[0] or y > b[3] + 2 or y + h + 2 < b[1] for b in boxes):
                boxes.append((x, y, x + w, y + h, len(boxes) % 2))
        for x1, y1, x2, y2, kind in boxes:
            picture[y1:y2, x1:x2] = (0, 0, 255) if kind == 0 else (0, 255, 0)
        names.append(f"clip{'ab'[n % 2]}_{n:03d}.png")
        cv2.imwrite(str(folder / names[-1]), picture)
        labels.append(boxes)
    return names, labels


def coco_set(root: Path) -> Path:
    names, labels = scene(root / "images")
    images = [{"id": n + 1, "file_name": name, "width": 300, "height": 200} for n, name in enumerate(names)]
    rows = [
        {"image_id": n + 1, "category_id": 3 + 4 * kind, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for n, boxes in enumerate(labels)
        for x1, y1, x2, y2, kind in boxes
    ]
    path = root / "labels.json"
    categories = [{"id": 7, "name": "bird"}, {"id": 3, "name": "ball"}]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def yolo_set(root: Path) -> Path:
    names, labels = scene(root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    for name, boxes in zip(names, labels):
        lines = [
            f"{kind} {(x1 + x2) / 600} {(y1 + y2) / 400} {(x2 - x1) / 300} {(y2 - y1) / 200}"
            for x1, y1, x2, y2, kind in boxes
        ]
        (root / "labels" / "train" / name).with_suffix(".txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: images/train\nnames: [ball, bird]\n")
    return root / "data.yaml"


def assert_labels_fit_pixels(picture: np.ndarray, boxes: np.ndarray, label: np.ndarray, crowd: np.ndarray) -> None:
    """Coloured pixels are exactly those of the boxes (crowds included: they are fragments)."""
    painted = [(picture[..., 2] > 200) & (picture[..., 1] < 50), (picture[..., 1] > 200) & (picture[..., 2] < 50)]
    claimed = [np.zeros(picture.shape[:2], bool) for _ in painted]
    for (x1, y1, x2, y2), kind in zip(boxes.round().astype(int), label):
        claimed[kind][y1:y2, x1:x2] = True
    for want, have in zip(claimed, painted):
        np.testing.assert_array_equal(want, have)


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_labels_of_tiles_fit_their_pixels_and_both_formats_agree(tmp_path: Path, kind: str) -> None:
    source = coco_set(tmp_path / "in") if kind == "coco" else yolo_set(tmp_path / "in")
    data = read_dataset(source)
    assert data.names == ("ball", "bird")
    out = tmp_path / "out"
    counts = slice_dataset(data, out, tile=96, overlap=0.25, min_visible=0.5, negatives=1, kind="png")
    coco = read_dataset(out / "annotations" / "train.json")
    yolo = read_dataset(out)
    assert len(coco.pictures) == len(yolo.pictures) == counts.splits["train"]["tiles"]
    by_name = {one.path.name: one for one in yolo.pictures}
    for one in coco.pictures:
        picture = cv2.imread(str(one.path))
        assert_labels_fit_pixels(picture, one.xyxy, one.label, one.crowd)
        other = by_name[one.path.name]
        np.testing.assert_allclose(other.in_px(one.wh or (0, 0)), one.xyxy[~one.crowd], atol=0.01)
        np.testing.assert_array_equal(other.label, one.label[~one.crowd])
    assert counts.by_class == {
        "ball": sum(int((one.label == 0).sum()) for one in yolo.pictures),
        "bird": sum(int((one.label == 1).sum()) for one in yolo.pictures),
    }
    assert (out / "preview.jpg").is_file()


def test_tiles_that_show_only_fragments_are_no_negatives(tmp_path: Path) -> None:
    data = read_dataset(coco_set(tmp_path / "in"))
    counts = slice_dataset(data, tmp_path / "out", tile=64, overlap=0.0, min_visible=0.9, negatives=1)
    coco = read_dataset(tmp_path / "out" / "annotations" / "train.json")
    assert counts.left_out > 0
    for one in coco.pictures:
        assert not len(one.label) or not one.crowd.all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_empty_tiles_is_kept(tmp_path: Path, share: float) -> None:
    data = read_dataset(coco_set(tmp_path / "in"))
    counts = slice_dataset(data, tmp_path / "out", tile=48, overlap=0.1, negatives=share).splits["train"]
    if share < 1:
        assert counts["empty"] == pytest.approx(share * counts["tiles"], abs=1)
    else:
        assert counts["empty"] > counts["tiles"] / 2


def test_crowds_stay_crowds(tmp_path: Path) -> None:
    path = coco_set(tmp_path / "in")
    tree = json.loads(path.read_text())
    tree["annotations"].append({"image_id": 1, "category_id": 3, "bbox": [0, 0, 300, 200], "iscrowd": 1})
    path.write_text(json.dumps(tree))
    slice_dataset(read_dataset(path), tmp_path / "out", tile=96, negatives=1)
    coco = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    first = {image["id"] for image in coco["images"] if "clipa_000" in image["file_name"]}
    full = [row for row in coco["annotations"] if row["image_id"] in first and row["bbox"][2:] == [96, 96]]
    assert len(full) == len(first)
    assert all(row["iscrowd"] for row in full)


def test_a_clips_frames_and_copies_of_a_picture_stay_in_one_split(tmp_path: Path) -> None:
    paths = []
    for clip in range(8):
        for frame in range(5):
            path = tmp_path / f"game{'abcdefgh'[clip]}_frame_{frame:04d}.png"
            path.write_bytes(f"{clip} {frame}".encode())
            paths.append(path)
    copy = tmp_path / "other.png"
    copy.write_bytes(paths[0].read_bytes())
    paths.append(copy)
    groups = groups_of(paths)
    assert len(set(groups)) == 8
    assert groups[-1] == groups[0]
    splits = splits_of(paths, {"train": 0.75, "val": 0.25}, seed=1)
    for group in set(groups):
        assert len({split for split, of in zip(splits, groups) if of == group}) == 1
    assert splits.count("val") == pytest.approx(10, abs=5)
    with pytest.raises(UsageError, match="shares above 0"):
        splits_of(paths, {"train": 0}, seed=1)


def test_numbered_pictures_that_are_no_clip_are_on_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n:012d}.jpg" for n in range(10)]
    assert len(set(groups_of(paths))) == 10


def test_the_command_keeps_classes_and_renames_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = coco_set(tmp_path / "in"), tmp_path / "out"
    words = ["slice-dataset", str(source), "--output", str(out), "--tile", "96", "--rename", "bird:flyer,ball:flyer"]
    assert main([*words, "--split", "train:0.5,val:0.5"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert set(counts["splits"]) == {"train", "val"}
    assert {split["pictures"] for split in counts["splits"].values()} == {3}
    assert list(counts["objects_by_class"]) == ["flyer"]
    assert read_dataset(out / "data.yaml").names == ("flyer",)
    assert main(words) == 3
    assert "is not empty" in capsys.readouterr().err
    assert main(["slice-dataset", str(source), "--output", str(tmp_path / "x"), "--classes", "cat"]) == 2
    assert "class 'cat' is not in the data set" in capsys.readouterr().err


def test_what_is_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no images/"):
        read_dataset(tmp_path)
    source = coco_set(tmp_path / "in")
    next((tmp_path / "in" / "images").iterdir()).unlink()
    with pytest.raises(ConfigError, match="does not exist; say where pictures lie"):
        slice_dataset(read_dataset(source), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(OutputError, match="is not empty"):
        slice_dataset(read_dataset(source), tmp_path / "full")
    with pytest.raises(OutputError, match="Not a directory"):
        slice_dataset(read_dataset(source), tmp_path / "full" / "x")
    with pytest.raises(ConfigError, match=r"tiles\.overlap"):
        slice_dataset(read_dataset(source), tmp_path / "new", overlap=float("nan"))
    with pytest.raises(ConfigError, match="no pictures"):
        slice_dataset(replace(read_dataset(source), pictures=()), tmp_path / "new")


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (b"0 nan 0.5 0.1 0.1", "does not fit"),
        (b"inf 0.5 0.5 0.1 0.1", "does not fit"),
        (b"1e30 0.5 0.5 0.1 0.1", "does not fit"),
        (b"\n-1 0.5 0.5 0.1 0.1", "line 2"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_labels_that_are_none_are_told(tmp_path: Path, label: bytes, says: str) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    (tmp_path / "labels" / "a.txt").write_bytes(label)
    with pytest.raises(ConfigError, match=says):
        read_dataset(tmp_path)


@pytest.mark.parametrize("names", ["{a: ball}", "{}", "{1000000000: ball}", "{-1: ball}"])
def test_class_numbers_that_are_none_are_told(tmp_path: Path, names: str) -> None:
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(ConfigError, match="class numbers"):
        read_dataset(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    "words", [["--seed", "-1"], ["--quality", "0"], ["--split", "../x:1"], ["--split", "train:nan"], ["--split", "a:0"]]
)
def test_options_without_sense_are_told(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco_set(tmp_path / "in")
    assert main(["slice-dataset", str(source), "--output", str(tmp_path / "out"), *words]) == 2
    assert words[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------- previews


def painted(seed: int, side: int = 80) -> Example:
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 60, np.uint8)
    low = rng.integers(10, side - 30, 2)
    box = [*low.tolist(), *(low + rng.integers(8, 20, 2)).tolist()]
    picture[box[1] : box[3], box[0] : box[2]] = (0, 0, 255)
    return Example(picture, np.array([box], float), np.zeros(1, np.int64), np.zeros(1, bool))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(10, 70), st.integers(10, 70))
def test_boxes_of_a_mosaic_fit_its_pixels(seed: int, x: int, y: int) -> None:
    made = mosaic([painted(seed + n) for n in range(4)], 80, (x, y))
    assert_labels_fit_pixels(made.picture, made.boxes, made.label, made.crowd)


@pytest.mark.parametrize("degrees", [-90, -17, 0, 30, 90, 180])
def test_boxes_that_are_turned_stay_round_their_objects(degrees: float) -> None:
    made = rotate(painted(4), degrees)
    red = (made.picture[..., 2].astype(int) - made.picture[..., 1]) > 100
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(made.boxes[0], seen, atol=1e-6 if degrees % 90 == 0 else 1.5)
