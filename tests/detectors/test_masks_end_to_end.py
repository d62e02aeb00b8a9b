"""A segmentation network on tiles: one object over several tiles becomes one mask, in the records and in the picture."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from blob_segmenter import save_blob_segmenter

import streamdet


def scene(path: Path) -> np.ndarray:
    """A bright ring's half and a bar, on black; returns where they are."""
    picture = np.zeros((300, 500, 3), np.uint8)
    cv2.ellipse(picture, (110, 150), (70, 40), 20, 0, 360, (255, 255, 255), -1)
    cv2.rectangle(picture, (300, 60), (450, 90), (255, 255, 255), -1)
    cv2.imwrite(str(path), picture)
    return picture[..., 0] > 127


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_blob_segmenter(tmp_path_factory.mktemp("model") / "blobs-seg.onnx"))


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("tile", [96, 128, 200, "none"])
def test_an_object_over_several_tiles_is_one_mask(model: str, tmp_path: Path, tile) -> None:
    truth = scene(tmp_path / "scene.png")
    (result,) = streamdet.run(str(tmp_path / "scene.png"), model=model, tile=tile)
    found = result.detections
    assert found.masks is not None
    if tile == "none":  # one tile is one object for this network
        assert len(found) == 1
    shown = np.zeros_like(truth)
    for mask in found.masks:
        x, y = mask.xy
        shown[y : y + mask.wh[1], x : x + mask.wh[0]] |= mask.pixels()
    assert overlap(shown, truth) > 0.93
    if tile == 96:  # smaller than either object
        assert len(found) == 2, [str(mask) for mask in found.masks]
        ellipse = found.masks[int(np.argmin(found.xyxy[:, 0]))]
        assert overlap(_framed(ellipse, truth.shape), truth & (np.arange(500) < 250)) > 0.93


def _framed(mask, shape) -> np.ndarray:
    framed = np.zeros(shape, bool)
    x, y = mask.xy
    framed[y : y + mask.wh[1], x : x + mask.wh[0]] = mask.pixels()
    return framed


def test_masks_are_written_and_drawn(model: str, tmp_path: Path) -> None:
    scene(tmp_path / "scene.png")
    run = streamdet.Run(
        streamdet.Config(
            sources=[str(tmp_path / "scene.png")],
            model=streamdet.config.ModelConfig(name=model),
            tiles=streamdet.config.TilesConfig(tile=96),
            output=streamdet.config.OutputConfig(
                frames=str(tmp_path / "f.jsonl"), coco=str(tmp_path / "c.json"), video=str(tmp_path / "drawn.png")
            ),
        )
    )
    run.finish()
    (line,) = (tmp_path / "f.jsonl").read_text().splitlines()
    objects = json.loads(line)["objects"]
    assert {tuple(one["segmentation"]["size"]) for one in objects} == {(300, 500)}
    assert all(len(one["polygons"]) == 1 and len(one["polygons"][0]) >= 6 for one in objects)
    assert all("segmentation" in row for row in json.loads((tmp_path / "c.json").read_text()))
    drawn = cv2.imread(str(tmp_path / "drawn.png"))
    assert drawn[150, 110].tolist() != [255, 255, 255], "the veil of the object's colour"
    assert drawn[250, 300].max() < 30, "where nothing is, nothing is drawn"


def test_pictures_results_carry_them_too(model: str, tmp_path: Path) -> None:
    truth = scene(tmp_path / "scene.png")
    (result,) = streamdet.predict(tmp_path / "scene.png", model=model, tile=96)
    boxes = json.loads(result.save_to_json(tmp_path / "out").read_text())["boxes"]
    assert len(boxes) == 2
    shown = np.zeros(truth.shape, np.uint8)
    for box in boxes:
        assert box["segmentation"]["size"] == [300, 500]
        outlines = [np.array(outline, np.float32).reshape(-1, 2) - 0.5 for outline in box["polygons"]]
        cv2.fillPoly(shown, [np.rint(outline).astype(np.int32) for outline in outlines], 1)
        x1, y1, x2, y2 = box["coordinate"]
        assert all(x1 - 1 <= x <= x2 and y1 - 1 <= y <= y2 for outline in outlines for x, y in outline.tolist())
    assert overlap(shown > 0, truth) > 0.9


def test_boxes_alone_have_no_masks(model: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((200, 200, 3), np.uint8))
    (result,) = streamdet.run(str(tmp_path / "black.png"), model=model, tile=128)
    assert len(result.detections) == 0


@pytest.mark.parametrize("collage", ["auto", "off"])
def test_what_stands_keeps_its_mask_while_the_network_is_asked_of_what_moves_only(
    model: str, tmp_path: Path, collage: str
) -> None:
    film, frames = tmp_path / "film.mp4", tmp_path / "film.jsonl"
    with av.open(str(film), "w") as sink:
        stream = sink.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 512, 384, "yuv420p"
        for index in range(40):
            picture = np.full((384, 512, 3), 20, np.uint8)
            cv2.ellipse(picture, (70, 70), (25, 18), 0, 0, 360, (230, 230, 230), -1)
            cv2.circle(picture, (60 + 8 * index, 300), 18, (240, 240, 240), -1)
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        sink.mux(stream.encode())
    settings = {"tiles.collage": collage, "output.frames": str(frames)}
    for _ in streamdet.run(str(film), model=model, tile=128, look="motion", settings=settings):
        pass
    told = [json.loads(line) for line in frames.read_text().splitlines()]
    held = seen = 0
    for line in told[5:]:
        moving, standing = sorted(line["objects"], key=lambda one: -one["bbox"][3])
        assert ("segmentation" in moving) == (moving["state"] == "confirmed")  # between looks it is where it was going
        seen += moving["state"] == "confirmed"
        assert "held" not in moving
        assert "segmentation" in standing
        assert standing["track"] != moving["track"]
        held += standing.get("held", False)
    assert held > 20
    assert seen > len(told[5:]) / 3
    assert sum(line["tiles"]["run"] for line in told[5:]) < 0.3 * sum(line["tiles"]["of"] for line in told[5:])
