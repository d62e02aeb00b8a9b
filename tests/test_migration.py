"""The lines that lead people here from SAHI and supervision are run as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
TEXT = (HERE / "migration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def write_network(path: Path) -> None:
    """YOLOv8's shape, 64x64: cell 0 says "ball" where the middle of the picture is bright, nothing else is ever said."""
    rows = np.zeros((1, 6, 84), np.float32)
    rows[0, :4, 0] = 32, 32, 12, 12
    weights = [
        numpy_helper.from_array(rows, "rows"),
        numpy_helper.from_array(np.array([[[0]] * 4 + [[1]] + [[0]]], np.float32), "ball"),
    ]
    weights += [
        numpy_helper.from_array(np.array(v, np.int64), n)
        for n, v in (("low", [0, 0, 30, 30]), ("high", [1, 3, 34, 34]))
    ]
    first = np.zeros((1, 1, 84), np.float32)
    first[0, 0, 0] = 1
    weights.append(numpy_helper.from_array(first, "first"))
    nodes = [
        helper.make_node("Slice", ["images", "low", "high"], ["middle"]),
        helper.make_node("ReduceMean", ["middle"], ["light"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["ball", "light"], ["score"]),
        helper.make_node("Mul", ["score", "first"], ["said"]),
        helper.make_node("Add", ["rows", "said"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 84])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'ball', 1: 'bird'}", "task": "detect"})
    onnx.save(model, str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photograph and a film with something bright in the middle, and a network that finds it."""
    import av

    write_network(tmp_path / "yolo.onnx")
    picture = np.full((64, 64, 3), 30, np.uint8)
    picture[26:38, 26:38] = 250
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture)
    with av.open(str(tmp_path / "match.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for n in range(8):
            moved = np.roll(picture, n % 2, axis=1)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "bgr24")))
        film.mux(stream.encode())
    return tmp_path


def run(block: str, folder: Path, then: str) -> str:
    words = [sys.executable, "-c", f"{block}\n{then}"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_from_sahi(folder: Path) -> None:
    said = run(BLOCKS[0], folder, "print(len(boxes), boxes[0][0], [round(v) for v in boxes[0][2]])")
    assert said == "1 ball [26, 26, 38, 38]"
    assert list((folder / "out").iterdir())


def test_from_supervision(folder: Path) -> None:
    said = run(BLOCKS[1], folder, "print(len(detections), detections.tracker_id.tolist(), detections.xyxy.shape)")
    assert said == "1 [1] (1, 4)"
    assert (folder / "runs" / "match" / "match.mp4").is_file()


def test_the_readme_says_the_same() -> None:
    """Once README has the section, it is the one that is run here."""
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    assert len(BLOCKS) == 2
    if "## Coming from SAHI" in readme:
        assert all(block in readme for block in BLOCKS)
