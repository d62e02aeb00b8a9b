"""Boxes against definitions written out one box at a time."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet import boxes


def scattered(count: int, seed: int, *, wh: tuple[int, int] = (400, 300), largest: float = 60.0) -> np.ndarray:
    """Boxes of all sizes, some degenerate, some on whole px so that edges touch."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, wh, (count, 2))
    size = random.exponential(largest / 3, (count, 2))
    size[random.random(count) < 0.05] = 0
    box = np.concatenate([corner, corner + size], axis=1)
    return np.where(random.random((count, 1)) < 0.5, box.round(), box).astype(np.float32)


def plain_iou(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """iou, ios and intersection of two boxes, in plain Python."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a = max(0.0, a[2] - a[0]) * max(0.0, a[3] - a[1])
    area_b = max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1])
    shared = width * height
    union, smaller = area_a + area_b - shared, min(area_a, area_b)
    return (shared / union if union else 0.0), (shared / smaller if smaller else 0.0), shared


def test_matrices_agree_with_plain_python() -> None:
    a, b = scattered(40, 1).astype(np.float64), scattered(30, 2).astype(np.float64)
    for i, one in enumerate(a.tolist()):
        for j, other in enumerate(b.tolist()):
            iou, ios, shared = plain_iou(one, other)
            assert boxes.iou(a, b)[i, j] == pytest.approx(iou)
            assert boxes.ios(a, b)[i, j] == pytest.approx(ios)
            assert boxes.intersection(a, b)[i, j] == pytest.approx(shared)
        if i > 8:
            break


@pytest.mark.parametrize("name", ["intersection", "ios", "nwd"])
def test_paired_is_the_diagonal_and_symmetric(name: str) -> None:
    a, b = scattered(50, 3), scattered(50, 4)
    matrix, row = getattr(boxes, name)(a, b), getattr(boxes, f"{name}_paired")(a, b)
    assert matrix.shape == (50, 50)
    assert row.dtype == np.float32
    np.testing.assert_allclose(np.diagonal(matrix), row, rtol=1e-6)
    np.testing.assert_allclose(getattr(boxes, name)(b, a), matrix.T, rtol=1e-5, atol=1e-6)


def test_known_values() -> None:
    a = [[0, 0, 10, 10]]
    assert boxes.iou(a, [[5, 0, 15, 10]])[0, 0] == pytest.approx(1 / 3)
    assert boxes.ios(a, [[2, 2, 4, 4]])[0, 0] == 1
    assert boxes.nwd(a, [[6, 8, 16, 18]], constant_px=12.8)[0, 0] == pytest.approx(math.exp(-10 / 12.8))
    assert boxes.nwd(a, [[2, 2, 8, 8]], constant_px=1.0)[0, 0] == pytest.approx(math.exp(-math.sqrt(8)))


def test_nwd_tells_copies_of_tiny_boxes_from_neighbours() -> None:
    ball = np.array([[100.0, 100, 104, 104]], np.float32)
    for move in ([1, 1], [2, 0], [2, 2], [0, 3]):
        assert boxes.nwd(ball, boxes.shift(ball, move))[0, 0] > 0.5
    for move in ([6, 0], [0, 5], [4, 4]):
        assert boxes.nwd(ball, boxes.shift(ball, move))[0, 0] < 0.5


def test_degenerate_boxes_are_silent() -> None:
    point = np.array([[5, 5, 5, 5], [9, 9, 3, 3], [0, 0, 10, 0]], np.float32)  # pytest turns any warning into an error
    for name in ("iou", "ios", "nwd"):
        assert np.isfinite(getattr(boxes, name)(point, point)).all()
    assert boxes.area(point).tolist() == [0, 0, 0]
    assert boxes.iou(np.zeros((0, 4)), point).shape == (0, 3)


def test_moving_and_clipping() -> None:
    box = scattered(20, 5)
    moved = boxes.centres(boxes.shift(box, [3, -4])) - boxes.centres(box)
    np.testing.assert_allclose(moved, np.tile([3, -4], (20, 1)), atol=1e-4)
    np.testing.assert_allclose(boxes.shift(boxes.shift(box, [3, -4]), [-3, 4]), box, atol=1e-4)
    assert boxes.clip([[-5, 2, 50, 99]], (40, 30)).tolist() == [[0, 2, 40, 30]]
    assert boxes.clip([[50, 2, 60, 9]], (40, 30)).tolist() == [[40, 2, 40, 9]]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 33, 400])
@pytest.mark.parametrize("metric", ["iou", "ios", "nwd"])
@pytest.mark.parametrize("largest", [6.0, 60.0, 600.0])
def test_candidate_pairs_miss_nothing(count: int, metric: boxes.Metric, largest: float) -> None:
    box = scattered(count, count, largest=largest)
    pairs = boxes.candidate_pairs(box, metric, threshold=0.3)
    told = set(map(tuple, pairs.tolist()))
    assert len(told) == len(pairs)
    assert pairs.tolist() == sorted(pairs.tolist())
    assert (pairs[:, 0] < pairs[:, 1]).all()
    first, second = np.nonzero(np.triu(boxes.pairwise(box, box, metric) >= 0.3, 1)) if count else ([], [])
    assert set(zip(map(int, first), map(int, second))) <= told


def test_candidate_pairs_are_exactly_the_overlapping_or_touching() -> None:
    box = scattered(300, 8)
    want = [
        (i, j)
        for i in range(300)
        for j in range(i + 1, 300)
        if (box[i, :2] <= box[j, 2:]).all() and (box[j, :2] <= box[i, 2:]).all()
    ]
    assert list(map(tuple, boxes.candidate_pairs(box).tolist())) == want
    apart = np.array([[0, 0, 10, 10], [12, 0, 20, 10]], np.float32)
    assert len(boxes.candidate_pairs(apart)) == 0
    assert len(boxes.candidate_pairs(apart, margin_px=2)) == 1


def test_candidate_pairs_of_ten_thousand_take_milliseconds() -> None:
    box = scattered(10_000, 9, wh=(3840, 2160), largest=40)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        pairs = boxes.candidate_pairs(box)
        spent.append(time.perf_counter() - start)
    assert len(pairs) > 100
    assert min(spent) < 0.1  # about 5 ms on an idle core; the bound only tells it from a quadratic one (over a second)


def plain_nms(box: np.ndarray, score: np.ndarray, label: np.ndarray | None, threshold: float) -> list[int]:
    """The textbook loop."""
    left = sorted(range(len(box)), key=lambda i: (-score[i], *box[i].tolist(), 0 if label is None else label[i]))
    kept: list[int] = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [
            i
            for i in left
            if (label is not None and label[i] != label[best]) or boxes.iou(box[[best]], box[[i]])[0, 0] <= threshold
        ]
    return kept


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 80), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.booleans())
def test_nms_is_the_textbook_loop(seed: int, count: int, threshold: float, per_class: bool) -> None:
    random = np.random.default_rng(seed)
    box = scattered(count, seed, wh=(120, 90))
    score = random.integers(1, 6, count).astype(np.float32) / 5
    label = random.integers(0, 3, count).astype(np.int32) if per_class else None
    kept = boxes.nms(box, score, label, threshold)
    assert kept.dtype == np.int64
    assert kept.tolist() == plain_nms(box, score, label, threshold)


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, streamdet.boxes; print([m for m in ('scipy', 'cv2', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
