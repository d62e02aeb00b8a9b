"""Every output layout, from a file of exactly that shape to boxes in frame px, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_graphs import batch_of, plan_of, save_brightest, save_constant, save_identity
from numpy.typing import NDArray

from streamdet.config import ModelConfig
from streamdet.detectors.network import NetworkDetector, open_detector
from streamdet.types import Detections

CELLS = 64 + 16 + 4  # of a 64 x 64 input at strides 8, 16, 32
# two objects, in input px: class 1 at 20,30 sized 16x8; class 0 at 44,20 sized 10x20
BOXES = np.array([[12, 26, 28, 34], [39, 10, 49, 30]], np.float32)
CENTRES = np.array([[20, 30, 16, 8], [44, 20, 10, 20]], np.float32)
SCORES, CLASSES = np.array([0.9, 0.6], np.float32), np.array([1, 0])


def logit(p: Any) -> NDArray[np.float32]:
    return np.asarray(np.log(np.asarray(p, np.float64) / (1 - np.asarray(p, np.float64))), np.float32)


@dataclass
class Case:
    family: str
    outputs: dict[str, NDArray[Any]]
    options: dict[str, Any] = field(default_factory=dict)
    manifest: str = ""
    atol: float = 1e-3


def dense(columns: int, rows: int, *, first: int, objectness: bool, transposed: bool = False) -> NDArray[np.float32]:
    """Centre boxes in px at anchors 5 and 17 of `rows`, and a near copy of the first beside it, which NMS must remove."""
    out = np.zeros((rows, columns), np.float32)
    out[:, :4] = 3, 3, 2, 2
    for anchor, box, score, label in zip((5, 17), CENTRES, SCORES, CLASSES):
        out[anchor, :4] = box
        if objectness:
            out[anchor, 4] = 0.95
        out[anchor, first + label] = score / 0.95 if objectness else score
    out[6] = out[5]
    out[6, 0] += 1
    out[6, first + 1] *= 0.8
    return np.ascontiguousarray(out.T) if transposed else out


def yolox_raw() -> NDArray[np.float32]:
    """cx = (offset + cell) * stride, w = exp(log) * stride; finest level first."""
    out = np.zeros((CELLS, 7), np.float32)
    for box, score, label, stride, anchor, cell in (
        (CENTRES[0], 0.9, 1, 8, 3 * 8 + 2, (2, 3)),
        (CENTRES[1], 0.6, 0, 16, 64 + 1 * 4 + 2, (2, 1)),
    ):
        out[anchor, :2] = box[:2] / stride - cell
        out[anchor, 2:4] = np.log(box[2:] / stride)
        out[anchor, 4], out[anchor, 5 + label] = 0.95, score / 0.95
    return out


def gfl_sides(points: NDArray[Any], strides: NDArray[Any], rows: list[int], count: int) -> NDArray[np.float32]:
    """Distribution columns whose mean is the wanted distance: two neighbouring bins share the weight."""
    out = np.zeros((count, 4, 8), np.float32)
    for row, point, stride, box in zip(rows, points, strides, BOXES):
        distance = np.concatenate([point - box[:2], box[2:] - point]) / stride
        for side, value in enumerate(distance):
            low = int(value)
            share = value - low
            out[row, side] = -60
            out[row, side, low] = np.log(max(1 - share, 1e-9))
            out[row, side, low + 1] = np.log(max(share, 1e-9))
    return out.reshape(count, 32)


def gfl_levels() -> dict[str, NDArray[np.float32]]:
    """NanoDet: cell 3,2 (column, row) of stride 8 has its middle at 28,20; cell 2,1 of stride 16 at 40,24."""
    scores = [np.zeros((n, 2), np.float32) for n in (64, 16, 4)]
    scores[0][3 * 8 + 2, 1] = 0.9  # middle 20,28
    scores[1][1 * 4 + 2, 0] = 0.6
    whole = gfl_sides(np.array([[20, 28], [40, 24]]), np.array([8, 16]), [26, 64 + 6], CELLS)
    sides = [whole[:64], whole[64:80], whole[80:]]
    named = {f"cls_pred_stride_{s}": a for s, a in zip((8, 16, 32), scores)}
    return named | {f"dis_pred_stride_{s}": a for s, a in zip((8, 16, 32), sides)}


def nanodet_plus() -> NDArray[np.float32]:
    """One output, four levels, points at cell corners: cell 2,4 of stride 8 is at 16,32, cell 3,1 of stride 16 at 48,16."""
    out = np.zeros((CELLS + 1, 2 + 32), np.float32)
    out[34, 1], out[64 + 7, 0] = 0.9, 0.6
    out[:, 2:] = gfl_sides(np.array([[16, 32.0], [48, 16]]), np.array([8, 16]), [34, 71], CELLS + 1)
    return out


def picodet() -> dict[str, NDArray[np.float32]]:
    named = list(gfl_levels().values())
    scores, sides = [*named[:3], np.zeros((1, 2), np.float32)], [*named[3:], np.zeros((1, 32), np.float32)]
    return {f"save_infer_model/scale_{i}.tmp_1": a for i, a in enumerate(scores + sides)}


def fastestdet() -> NDArray[np.float32]:
    out = np.zeros((7, 4, 4), np.float32)
    for (column, row), box, score, label in zip(((1, 2), (2, 1)), CENTRES, SCORES, CLASSES):
        out[0, row, column] = score
        out[1:3, row, column] = np.arctanh(box[:2] / 16 - (column, row))
        out[3:5, row, column] = logit(box[2:] / 64)
        out[5 + label, row, column] = score  # score^0.6 * score^0.4 = score
    return out


def centers(log: bool) -> list[NDArray[np.float32]]:
    heat, offset, size = (
        np.zeros((2, 16, 16), np.float32),
        np.zeros((2, 16, 16), np.float32),
        np.zeros((2, 16, 16), np.float32),
    )
    for (column, row), box, score, label in zip(((5, 7), (11, 5)), CENTRES, SCORES, CLASSES):
        heat[label, row - 1 : row + 2, column - 1 : column + 2] = score / 2
        heat[label, row, column] = score
        offset[:, row, column] = box[:2] / 4 - (column, row)
        size[:, row, column] = np.log(box[2:]) if log else box[2:] / 4
    return [heat, offset, size]


def queries(columns: int, *, softmax: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    logits = np.full((6, columns), -30 if softmax else -9, np.float32)
    if softmax:
        logits[:, -1] = 0
    boxes = np.full((6, 4), 0.5, np.float32)
    for query, box, score, label in zip((1, 4), CENTRES, SCORES, CLASSES):
        logits[query, label] = logit(score)  # against a zero column the softmax of x is the sigmoid of x
        boxes[query] = box / 64
    return logits, boxes


def picked(rows: int = 5) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    boxes, scores, labels = np.zeros((rows, 4), np.float32), np.zeros(rows, np.float32), np.zeros(rows, np.int64)
    boxes[:2], scores[:2], labels[:2] = BOXES, SCORES, CLASSES
    return boxes, scores, labels


def end2end(extra: int = 0) -> NDArray[np.float32]:
    out = np.zeros((10, 6 + extra), np.float32)
    out[:2] = np.column_stack([BOXES, SCORES, CLASSES, *([np.ones(2)] * extra)])
    return out


def grid_ball() -> NDArray[np.float32]:
    out = np.zeros((9, 4, 4), np.float32)  # three frames of score, x, y; only the last one counts
    out[0, 0, 0] = 0.99
    out[6, 1, 1], out[7, 1, 1], out[8, 1, 1] = 0.9, 0.25, 0.875
    return out


NAMES = {"names": "{0: 'person', 1: 'ball'}", "stride": "32", "imgsz": "[64, 64]", "task": "detect"}
boxes, scores, labels = picked()
float_labels = labels.astype(np.float32)
dense_scores = np.zeros((30, 2), np.float32)
dense_boxes = np.zeros((30, 4), np.float32)
dense_boxes[[3, 4, 9]] = BOXES[[0, 0, 1]]
dense_scores[3, 1], dense_scores[4, 1], dense_scores[9, 0] = 0.9, 0.7, 0.6
TWO = 'labels = ["person", "ball"]\n'
obb = dense(7, CELLS, first=4, objectness=False)
obb[17, 2:4], obb[:, 6] = (20, 10), np.pi / 2
obb[5, 6] = obb[6, 6] = 0
masks = np.concatenate([dense(6, CELLS, first=4, objectness=False), np.full((CELLS, 32), 5, np.float32)], axis=1)
logits2, boxes2 = queries(2)
logits3, boxes3 = queries(3, softmax=True)
heat, offset, size = centers(True)
raw_hm, raw_reg, raw_wh = centers(False)

CASES = {
    "yolox, px": Case("yolox", {"output": dense(7, CELLS, first=5, objectness=True)}),
    "yolox, grid offsets": Case("yolox", {"output": yolox_raw()}),
    "yolov5": Case("yolov5", {"output0": dense(7, 3 * CELLS, first=5, objectness=True)}),
    "yolov8": Case(
        "yolov8", {"output0": dense(6, CELLS, first=4, objectness=False, transposed=True)}, {"metadata": NAMES}
    ),
    "yolov8, no metadata": Case("yolov8", {"output0": dense(6, CELLS, first=4, objectness=False, transposed=True)}),
    "yolov8, masks": Case(
        "yolov8",
        {"output0": np.ascontiguousarray(masks.T), "output1": np.zeros((32, 16, 16), np.float32)},
        {"metadata": NAMES | {"task": "segment"}},
    ),
    "yolov8, transposed": Case("yolov8", {"output": dense(6, CELLS, first=4, objectness=False)}, manifest=TWO),
    "yolov8, oriented": Case("yolov8", {"output0": np.ascontiguousarray(obb.T)}, {"metadata": NAMES | {"task": "obb"}}),
    "yolov10, yolo26": Case("yolo_end2end", {"output0": end2end()}, {"metadata": NAMES}),
    "yolo26 with masks": Case("yolo_end2end", {"output0": end2end(32), "output1": np.zeros((32, 16, 16), np.float32)}),
    "yolov7 end2end": Case(
        "yolov7_end2end",
        {"output": np.column_stack([np.zeros(2), BOXES, CLASSES, SCORES]).astype(np.float32)},
        {"per_tile": False, "batch": 1},
    ),
    "efficientnms": Case(
        "detections",
        {
            "num_dets": np.array([2], np.int32),
            "det_boxes": np.concatenate([BOXES, BOXES]),
            "det_scores": np.full(4, 0.9, np.float32) * np.array([1, 2 / 3, 1, 1], np.float32),
            "det_classes": np.array([1, 0, 0, 0], np.int32),
        },
    ),
    "deim, rt-detr": Case(
        "detections",
        {"labels": labels, "boxes": boxes, "scores": scores},
        {"extra": {"orig_target_sizes": ("int64", (None, 2))}},
    ),
    "torchvision": Case(
        "detections",
        {"boxes": boxes, "labels": labels + 1, "scores": scores},
        {"per_tile": False, "batch": 1},
        "first_label = 1\n" + TWO,
    ),
    "torchvision, as exported": Case(  # one picture without a batch; numbered outputs; ids from 1
        "detections",
        {"2774": boxes, "2775": labels + 1, "2776": scores},
        {"per_tile": False, "batch": 1, "unbatched": True},
        "first_label = 1\n" + TWO,
    ),
    "tensorflow": Case(
        "detections",
        {
            "detection_boxes": boxes[:, [1, 0, 3, 2]] / 64,
            "detection_classes": float_labels + 1,
            "detection_scores": scores,
            "num_detections": np.array(2, np.float32).reshape(()),
        },
        {"nhwc": True, "dtype": "uint8"},
        "first_label = 1\n" + TWO,
    ),
    "dense": Case("dense", {"boxes": dense_boxes, "scores": dense_scores}),
    "dense, transposed": Case(
        "dense", {"boxes": dense_boxes, "scores": np.ascontiguousarray(dense_scores.T)}, manifest=TWO
    ),
    "nms in the graph": Case(
        "selected",
        {
            "boxes": dense_boxes[None],
            "scores": np.ascontiguousarray(dense_scores.T)[None],
            "selected_indices": np.array([[0, 1, 3], [0, 0, 9]], np.int64),
        },
        {"per_tile": False, "batch": 1},
        TWO,
    ),
    "paddle": Case(
        "paddle",
        {
            "multiclass_nms3_0.tmp_0": np.column_stack([CLASSES, SCORES, BOXES]).astype(np.float32),
            "multiclass_nms3_0.tmp_2": np.array([2], np.int32),
        },
        {
            "per_tile": False,
            "batch": 1,
            "extra": {"scale_factor": ("float32", (1, 2)), "im_shape": ("float32", (1, 2))},
        },
    ),
    "paddle's rt-detr": Case(
        "paddle_rtdetr",
        {
            "concat_12.tmp_0": np.concatenate(
                [np.column_stack([CLASSES, SCORES, BOXES]), np.tile([0, 0.01, 1, 1, 9, 9], (298, 1))]
            ).astype(np.float32),
            "cast_5.tmp_0": np.array([300], np.int32),
        },
        {
            "per_tile": False,
            "batch": 1,
            "extra": {"im_shape": ("float32", (1, 2)), "scale_factor": ("float32", (1, 2))},
        },
    ),
    "detr, sigmoid": Case("detr_sigmoid", {"logits": logits2, "pred_boxes": boxes2}, manifest=TWO),
    "detr as transformers exports it": Case(
        "detr",
        {"logits": logits3, "pred_boxes": boxes3, "encoder_last_hidden_state": np.zeros((4, 8), np.float32)},
        {"extra": {"pixel_mask": ("int64", (None, 64, 64))}},
        TWO,
    ),
    "detr, softmax": Case("detr", {"logits": logits3, "pred_boxes": boxes3}, manifest=TWO),
    "rf-detr": Case("rfdetr", {"dets": boxes2, "labels": logits2}),
    "nanodet": Case("nanodet", dict(gfl_levels())),
    "nanodet-plus": Case("nanodet", {"output": nanodet_plus()}),
    "picodet": Case("picodet", picodet()),
    "fastestdet": Case("fastestdet", {"758": fastestdet()}),
    "tiny mover": Case("centers", {"heat": heat, "offset": offset, "size": size}),
    "tiny mover, logits": Case("centers", {"heat": logit(heat.clip(1e-4)), "offset": offset, "size": size}),
    "centernet": Case("centers", {"hm": raw_hm, "wh": raw_wh, "reg": raw_reg}),
}


def opened(path: Path, **settings: Any) -> NetworkDetector:
    return open_detector(ModelConfig(backend="onnxruntime", **{"threads": 2, "conf": 0.3, **settings}), path)


def written(case: Case, path: Path, batch: int | None) -> Path:
    if case.manifest:
        path.with_suffix(".toml").write_text(case.manifest)
    return save_constant(path, case.outputs, **{"batch": batch, **case.options})


def run(detector: NetworkDetector, tiles: int = 3) -> Detections:
    """Tiles of a 200 x 100 frame, each 32 px apart and shown twice as large."""
    plan = plan_of((200, 100), [[32 * i, 0, 32 * i + 32, 32] for i in range(tiles)], (64, 64), 2.0)
    spec = detector.input
    dtype = {"float32": np.float32, "uint8": np.uint8}[spec.dtype]
    return detector(batch_of(np.zeros(spec.shape(tiles, (64, 64)), dtype), plan))


@pytest.mark.parametrize("batch", [None, 1, 2], ids=["free batch", "batch 1", "batch 2"])
@pytest.mark.parametrize("name", CASES)
def test_layout(name: str, batch: int | None, tmp_path: Path) -> None:
    case = CASES[name]
    if "batch" in case.options and batch != 1:
        pytest.skip("this layout has no batch dimension")
    with opened(written(case, tmp_path / "model.onnx", batch)) as detector:
        assert detector.spec.family.name == case.family
        found = run(detector)
    assert len(found) == 3 * 2
    for tile in range(3):
        rows = found[found.tile == tile]
        rows = rows[np.argsort(-rows.score)]
        np.testing.assert_allclose(rows.xyxy, BOXES / 2 + np.array([32 * tile, 0, 32 * tile, 0]), atol=case.atol)
        np.testing.assert_allclose(rows.score, SCORES, atol=1e-3)
        assert rows.label.tolist() == CLASSES.tolist()
    assert detector.counts["not_finite"] == 0


def test_detr_networks_are_fed_as_their_image_processors_do(tmp_path: Path) -> None:
    """DETR: ImageNet's mean and std; RT-DETR of Transformers: 0..1; Deformable DETR on COCO's 91 ids: ImageNet's."""
    wide = np.full((5, 91), -9, np.float32)
    for number, (logits, queries, mean) in enumerate(
        [(logits3, boxes3, 123.675), (logits2, boxes2, 0.0), (wide, np.full((5, 4), 0.5, np.float32), 123.675)]
    ):
        manifest = "" if logits is wide else TWO
        case = Case("", {"logits": logits, "pred_boxes": queries}, manifest=manifest)
        with opened(written(case, tmp_path / f"{number}.onnx", None)) as detector:
            assert detector.input.mean[0] == mean
            assert detector.input.std[0] == (58.395 if mean else 255)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_picture_without_a_batch_dimension(tmp_path: Path, backend: str) -> None:
    """Real arithmetic: one box round whatever is bright, of one (3, H, W) picture at a time, at any size."""
    path = tmp_path / "net.onnx"
    save_brightest(path)
    path.with_suffix(".toml").write_text(
        "labels = ['bright']\nmean = 0\nstd = 255\nresize = 'letterbox'\ninput = [64, 64]\n"
    )
    plan = plan_of((192, 64), [[64 * i, 0, 64 * i + 64, 64] for i in range(3)], (64, 64), 1.0)
    with open_detector(ModelConfig(backend=backend, threads=2), path) as detector:  # type: ignore[arg-type]
        data = np.zeros(detector.input.shape(3, (64, 64)), np.float32)
        for tile, (row, column) in enumerate([(5, 9), (30, 40), (60, 1)]):
            data[tile, :, row, column] = 1
        found = detector(batch_of(data, plan))
    found = found[np.argsort(found.tile)]
    expected = [[9 - 1, 5 - 1, 9 + 2, 5 + 2], [64 + 39, 29, 64 + 42, 32], [128 + 0, 59, 128 + 3, 62]]
    np.testing.assert_allclose(found.xyxy, np.array(expected), atol=1e-4)


# ------------------------------------------------------------------------------------------------- several frames, grids


@pytest.mark.parametrize("batch", [None, 1])
def test_heat_maps_of_several_frames(tmp_path: Path, batch: int | None) -> None:
    """The network answers with its own input: what was painted into the newest frame must come out, of the right tile."""
    path = save_identity(tmp_path / "vballnet.onnx", wh=(64, 48), channels=9, batch=batch)
    with opened(path, conf=0.5) as detector:
        assert detector.spec.family.name == "heatmaps"
        assert detector.labels == ("ball",)
        assert detector.input.channels == tuple(f"y[{i}]" for i in range(-8, 1))
        assert detector.input.stretch
        data = np.zeros((2, 9, 48, 64), np.float32)
        data[0, 8, 10:15, 20:23] = 0.8  # centre 21.5, 12.5
        data[1, 8, 30:34, 40:50] = 0.6
        data[1, 8, 31, 44] = 0.9
        data[0, 3, 5:9, 5:9] = 1.0  # an earlier frame
        plan = plan_of((256, 96), [[0, 0, 128, 96], [128, 0, 256, 96]], (64, 48), 0.5)
        found = detector(batch_of(data, plan))
    assert found.tile.tolist() == [0, 1]
    np.testing.assert_allclose(found.xyxy[0], [40, 20, 46, 30], atol=1e-3)
    np.testing.assert_allclose(found.score, [0.8, 0.9])
    size = found.xyxy[1, 2:] - found.xyxy[1, :2]
    np.testing.assert_allclose(size, [20, 8], atol=1e-3)
    centre = (found.xyxy[1, 2:] + found.xyxy[1, :2]) / 2 - [128, 0]
    mean_x = (np.arange(40.5, 50) * 4 * 0.6).sum() + 44.5 * 0.3
    np.testing.assert_allclose(centre[0], 2 * mean_x / (40 * 0.6 + 0.3), atol=1e-3)


def test_colour_frames_one_map_each(tmp_path: Path) -> None:
    path = save_identity(tmp_path / "tracknet.onnx", wh=(64, 48), channels=9, out=3)
    with opened(path) as detector:
        assert detector.input.channels == ("r[-2]", "g[-2]", "b[-2]", "r[-1]", "g[-1]", "b[-1]", "r[0]", "g[0]", "b[0]")


def test_grid_of_several_frames(tmp_path: Path) -> None:
    path = save_constant(tmp_path / "grid.onnx", {"out": grid_ball()}, channels=3)
    (tmp_path / "grid.toml").write_text('decoder = "ball_grid"\nbox_px = 8\nchannels = ["y[-2]", "y[-1]", "y[0]"]')
    with opened(path) as detector:
        found = run(detector, 1)
    assert len(found) == 1
    np.testing.assert_allclose(found.xyxy[0], np.array([20 - 4, 30 - 4, 20 + 4, 30 + 4]) / 2, atol=1e-3)


# -------------------------------------------------------------------------------------------------------------- oracles


def brute_peaks(heat: NDArray[np.float32], floor: float) -> set[tuple[int, ...]]:
    found = set()
    for t, c, y, x in np.ndindex(*heat.shape):
        value = heat[t, c, y, x]
        best = True
        for yy in range(max(0, y - 1), min(heat.shape[2], y + 2)):
            for xx in range(max(0, x - 1), min(heat.shape[3], x + 2)):
                other = heat[t, c, yy, xx]
                if other > value or (other == value and (yy, xx) < (y, x)):
                    best = False
        if best and value >= floor:
            found.add((t, c, y, x))
    return found


def test_peaks_against_every_cell() -> None:
    from streamdet.detectors.decode.centers import peaks, strongest

    random = np.random.default_rng(3)
    for _ in range(20):
        heat = random.integers(0, 4, (2, 2, 7, 9)).astype(np.float32) / 4  # many ties
        assert set(zip(*(axis.tolist() for axis in peaks(heat, 0.25)))) == brute_peaks(heat, 0.25)
    score, tile = random.random(50).astype(np.float32), np.sort(random.integers(0, 3, 50))
    kept = strongest(score, tile, 5)
    for row in range(3):
        here = np.nonzero(tile == row)[0]
        assert set(kept[tile[kept] == row]) == set(here[np.argsort(-score[here])[:5]])


def _reference_yolox(raw: NDArray[np.float32], wh: tuple[int, int], floor: float) -> list[tuple[float, ...]]:
    rows = []
    index = 0
    for stride in (8, 16, 32):
        for y in range(wh[1] // stride):
            for x in range(wh[0] // stride):
                o = raw[index]
                index += 1
                label = int(o[5:].argmax())
                if o[4] * o[5 + label] >= floor:
                    cx, cy, w, h = (
                        (o[0] + x) * stride,
                        (o[1] + y) * stride,
                        np.exp(o[2]) * stride,
                        np.exp(o[3]) * stride,
                    )
                    rows.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, o[4] * o[5 + label], label))
    return rows


def test_yolox_against_a_plain_loop() -> None:
    from streamdet.detectors.decode.layout import Layout
    from streamdet.detectors.decode.yolox import decode

    random = np.random.default_rng(5)
    raw = random.normal(0, 1, (2, CELLS, 9)).astype(np.float32)
    raw[..., 4:] = random.random((2, CELLS, 5))
    found = decode({"o": raw}, Layout("yolox", {"output": ("o",)}, 4, (8, 16, 32), decoded=False), (64, 64), 0.5)
    for tile in range(2):
        mine = np.column_stack([found.xyxy, found.score, found.label])[found.tile == tile]
        np.testing.assert_allclose(mine, np.array(_reference_yolox(raw[tile], (64, 64), 0.5)), rtol=1e-5, atol=1e-3)


def test_upright_box_round_a_turned_one() -> None:
    from streamdet.detectors.decode.yolo import _upright

    box = _upright(np.array([[50, 40, 20, 10.0]], np.float32), np.array([np.pi / 6]))
    corners: Callable[[float, float], tuple[float, float]] = lambda x, y: (  # noqa: E731
        50 + x * np.cos(np.pi / 6) - y * np.sin(np.pi / 6),
        40 + x * np.sin(np.pi / 6) + y * np.cos(np.pi / 6),
    )
    points = np.array([corners(x, y) for x in (-10, 10) for y in (-5, 5)])
    np.testing.assert_allclose(box[0], [*points.min(axis=0), *points.max(axis=0)], rtol=1e-5)
