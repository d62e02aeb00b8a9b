"""One contender, one clip, one process: prints seconds per frame, peak memory and what was found as JSON.

python benchmarks/rivals.py sahi clip.mp4 MODEL.onnx --first 16 --frames 6

Every contender reads the file with the reader its own documentation shows (SAHI and supervision: OpenCV; streamdet: its
own), runs YOLOX on tiles of 416 px and merges. Choices made so that the comparison is fair:

- the same tile grid for all (streamdet's, given to the others as pixel overlaps: the same number of tiles as at ratio 0.2);
- score threshold 0.25, class-wise NMS at IoU 0.5 inside a tile, then greedy merging at IoS 0.5 across tiles, for all;
- the network callback of the rivals does nothing it need not: BGR views in, no resizing, grids made once, candidates
  filtered before anything is computed on them, NMS in OpenCV's C++;
- one plain onnxruntime session for them, with its default of as many threads as cores. ``supervision-tuned`` is more than
  its documentation tells: two workers on a session of one thread, the trick streamdet uses itself.

Frames before ``--first`` are decoded and, except for the last two, not looked at by the rivals: they are warm-up, and media
time in which streamdet's tracks get confirmed. Time runs from the result before ``--first`` to the last one asked for; the
readers go on behind it, so that nobody gains from what was decoded ahead.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # for all contenders: nobody pays for what onnxruntime tells Microsoft
TILE, CONF, NMS_IOU, MERGE_IOS = 416, 0.25, 0.5, 0.5
WARM_UP = 2
Rows = list[list[float]]  # x1 y1 x2 y2 score label


class Yolox:
    """The network of a rival: one BGR tile in, rows of x1 y1 x2 y2 score label out."""

    def __init__(self, model: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        cells, strides = [], []
        for stride in (8, 16, 32):
            side = TILE // stride
            y, x = np.mgrid[:side, :side]
            cells.append(np.stack([x, y], 2).reshape(-1, 2))
            strides.append(np.full((side * side, 1), stride))
        self.cells = np.concatenate(cells).astype(np.float32)
        self.strides = np.concatenate(strides).astype(np.float32)

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        import cv2

        height, width = tile.shape[:2]
        blob = np.full((1, 3, TILE, TILE), 114, np.float32) if (height, width) != (TILE, TILE) else _blob()
        blob[0, :, :height, :width] = tile.transpose(2, 0, 1)
        rows = self.session.run(None, {self.name: blob})[0][0]
        likely = np.flatnonzero(rows[:, 4] >= CONF)
        rows = rows[likely]
        label = rows[:, 5:].argmax(1) if len(rows) else np.zeros(0, np.int64)
        score = rows[:, 4] * rows[np.arange(len(rows)), 5 + label]
        keep = score >= CONF
        rows, label, score, likely = rows[keep], label[keep], score[keep], likely[keep]
        if not len(rows):
            return np.zeros((0, 6), np.float32)
        centre = (rows[:, :2] + self.cells[likely]) * self.strides[likely]
        size = np.exp(rows[:, 2:4]) * self.strides[likely]
        boxes = np.concatenate([centre - size / 2, size], 1)
        kept = np.asarray(cv2.dnn.NMSBoxesBatched(boxes, score, label, CONF, NMS_IOU), int).ravel()
        boxes = boxes[kept]
        xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        return np.concatenate([xyxy, score[kept, None], label[kept, None]], 1).astype(np.float32)


def _blob() -> np.ndarray:
    return np.empty((1, 3, TILE, TILE), np.float32)


def opencv_frames(clip: str) -> Iterator[np.ndarray]:
    import cv2

    reader = cv2.VideoCapture(clip)
    while True:
        there, frame = reader.read()
        if not there:
            return
        yield frame


def looked_at(clip: str, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """Index and picture of the frames a rival has to look at."""
    for index, picture in enumerate(opencv_frames(clip)):
        if index >= first - WARM_UP:
            yield index, picture


def grid_overlap_px(clip: str) -> tuple[int, int]:
    """The overlap in x and y that makes a rival's grid streamdet's."""
    import cv2

    from streamdet.config import TilesConfig
    from streamdet.tiles.plan import plan_tiles

    reader = cv2.VideoCapture(clip)
    wh = int(reader.get(cv2.CAP_PROP_FRAME_WIDTH)), int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT))
    tiles = plan_tiles(wh, input_wh=(TILE, TILE), config=TilesConfig(tile=TILE, overlap=0.2, look="all")).xyxy
    steps = [int(np.diff(np.unique(tiles[:, axis])).max()) for axis in (0, 1)]
    return TILE - steps[0], TILE - steps[1]


def sahi(clip: str, model: str, *, first: int, offset: tuple[int, int] = (0, 0)) -> Iterator[tuple[int, Rows]]:
    """SAHI looks at one tile after the other: onnxruntime gets both cores. Batches would not help a fixed batch of 1.

    `offset`: px that are cut off at the left and at the top first, so that its tiles lie elsewhere in the scene.
    """
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction

    names = [str(number) for number in range(80)]

    class Model(DetectionModel):
        def load_model(self) -> None:
            self.set_model(Yolox(self.model_path, threads=2))

        def set_model(self, model: Any, **_: Any) -> None:
            self.model = model
            self.category_mapping = {str(number): name for number, name in enumerate(names)}

        def perform_inference(self, image: np.ndarray) -> None:
            self._original_predictions = self.model(image)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            shift, shape = shift_amount_list, full_shape_list
            shift = shift[0] if isinstance(shift[0], (list, tuple)) else shift
            shape = shape[0] if shape and isinstance(shape[0], (list, tuple)) else shape
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        bbox=[max(0.0, float(row[0])), max(0.0, float(row[1])), float(row[2]), float(row[3])],
                        category_id=int(row[5]),
                        score=float(row[4]),
                        category_name=names[int(row[5])],
                        shift_amount=shift,
                        full_shape=shape,
                    )
                    for row in self._original_predictions
                ]
            ]

    detector = Model(model_path=model, confidence_threshold=CONF, device="cpu")
    overlap = grid_overlap_px(clip)
    for index, whole in looked_at(clip, first):
        picture = np.ascontiguousarray(whole[offset[1] :, offset[0] :])
        done = get_sliced_prediction(
            picture, detector, slice_height=TILE, slice_width=TILE,
            overlap_width_ratio=(overlap[0] + 0.5) / TILE, overlap_height_ratio=(overlap[1] + 0.5) / TILE,
            perform_standard_pred=False, postprocess_type="GREEDYNMM", postprocess_match_metric="IOS",
            postprocess_match_threshold=MERGE_IOS, verbose=0,
        )  # fmt: skip
        found = done.object_prediction_list
        rows = [[*map(float, one.bbox.to_xyxy()), float(one.score.value), one.category.id] for one in found]
        yield index, _moved(rows, offset)


def _moved(rows: Rows, offset: tuple[int, int]) -> Rows:
    x, y = offset
    return [[x1 + x, y1 + y, x2 + x, y2 + y, *rest] for x1, y1, x2, y2, *rest in rows]


def supervision(clip: str, model: str, *, first: int, workers: int, threads: int) -> Iterator[tuple[int, Rows]]:
    import supervision as sv

    network = Yolox(model, threads=threads)

    def callback(tile: np.ndarray) -> sv.Detections:
        rows = network(tile)
        return sv.Detections(xyxy=rows[:, :4], confidence=rows[:, 4], class_id=rows[:, 5].astype(int))

    slicer = sv.InferenceSlicer(
        callback, slice_wh=TILE, overlap_wh=grid_overlap_px(clip), thread_workers=workers,
        overlap_filter=sv.OverlapFilter.NON_MAX_MERGE, overlap_metric=sv.OverlapMetric.IOS, iou_threshold=MERGE_IOS,
    )  # fmt: skip
    for index, picture in looked_at(clip, first):
        found = slicer(picture)
        columns = np.concatenate([found.xyxy, found.confidence[:, None], found.class_id[:, None]], 1)
        yield index, columns.tolist()


def ours(clip: str, model: str, *, look: Any, backend: Any, record: dict[str, Any]) -> Iterator[tuple[int, Rows]]:
    """`look`: "all" and "motion" on the tiles of the rivals; "joined": all, and the planner may join tiles."""
    import streamdet

    record["tracks"], record["tiles"] = {}, {}
    tile = "auto" if look == "joined" else TILE
    look = "all" if look == "joined" else look
    run = streamdet.run(clip, model=model, tile=tile, overlap=0.2, look=look, backend=backend, conf=CONF, iou=NMS_IOU)
    for result in run:
        found, shown = result.detections, result.tracks.shown
        index = result.frame.index
        record["tiles"][index] = np.bincount(result.tiles.slot_why, minlength=4).tolist() if result.tiles else [0] * 4
        record["of"] = result.tiles.of if result.tiles else record.get("of")
        record["tracks"][index] = np.concatenate(
            [shown.xyxy, *(column[:, None] for column in (shown.score, shown.label, shown.state, shown.id))], 1
        ).tolist()
        yield index, np.concatenate([found.xyxy, found.score[:, None], found.label[:, None]], 1).tolist()


def ours_moved(clip: str, model: str, *, first: int, offset: tuple[int, int]) -> Iterator[tuple[int, Rows]]:
    """What "joined" finds in pictures of which `offset` px are cut off."""
    import streamdet

    how: dict[str, Any] = {"model": model, "overlap": 0.2, "backend": "onnxruntime", "threshold": CONF, "iou": NMS_IOU}
    for index, whole in looked_at(clip, first):
        (result,) = streamdet.predict(np.ascontiguousarray(whole[offset[1] :, offset[0] :]), **how)
        found = result.detections
        yield (
            index,
            _moved(np.concatenate([found.xyxy, found.score[:, None], found.label[:, None]], 1).tolist(), offset),
        )


def contender(
    name: str, clip: str, model: str, first: int, offset: tuple[int, int], record: dict[str, Any]
) -> Iterator[tuple[int, Rows]]:
    if name == "sahi":
        return sahi(clip, model, first=first, offset=offset)
    if name == "streamdet-moved":
        return ours_moved(clip, model, first=first, offset=offset)
    if name == "supervision-tuned":
        return supervision(clip, model, first=first, workers=2, threads=1)
    if name.startswith("supervision"):
        return supervision(clip, model, first=first, workers=int(name[-1]), threads=2)
    _, look, backend = name.split("-")
    return ours(clip, model, look=look, backend=backend, record=record)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", help="sahi, supervision-1 (2 workers, -tuned), streamdet-LOOK-BACKEND, -moved")
    parser.add_argument("clip")
    parser.add_argument("model")
    parser.add_argument("--first", type=int, default=16)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--offset", type=int, nargs=2, default=(0, 0), help="px cut off left and top: sahi, -moved")
    words = parser.parse_args()
    record: dict[str, Any] = {"name": words.name}
    found: dict[int, Rows] = {}
    times: list[float] = []
    what = words.name, words.clip, words.model, words.first
    for index, rows in contender(*what, tuple(words.offset), record):
        if index >= words.first - 1:
            times.append(time.perf_counter())
        if index >= words.first:
            found[index] = rows
        if len(times) == words.frames + 1:
            break
    for name in set(record) & {"tracks", "tiles"}:
        record[name] = {index: value for index, value in record[name].items() if index in found}
    record |= {
        "seconds": [round(after - before, 6) for before, after in itertools.pairwise(times)],
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "found": found,
    }
    print(json.dumps(record), flush=True)
    sys.stdout.flush()
    os._exit(0)  # readers and threads of the contender need no farewell


if __name__ == "__main__":
    main()
