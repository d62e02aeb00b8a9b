"""Merging against loops written from the definitions, seams by hand, and the same answer for any order of the rows."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdet import boxes
from streamdet.config import MergeConfig
from streamdet.merge import TINY_PX, Merger, merge
from streamdet.types import Detections, TilePlan

METHODS = ["greedy_nmm", "nmm", "nms", "soft_nms", "fusion"]
COLUMNS = ["xyxy", "score", "label", "tile", "truncated"]
LEFT, TOP, RIGHT, BOTTOM = 1, 2, 4, 8


def crowd(count: int, seed: int, *, whole: bool = True, smallest: float = 9.0) -> Detections:
    """Objects seen up to four times by different tiles, with scores that are often equal."""
    random = np.random.default_rng(seed)
    objects = max(count // 3, 1)
    corner = random.uniform(0, 150, (objects, 2))
    box = np.concatenate([corner, corner + random.uniform(smallest, 50, (objects, 2))], axis=1)
    which = random.integers(0, objects, count)
    copies = box[which] + random.normal(0, 2, (count, 4)).round()
    bits = 0 if whole else random.choice([0, 0, 1, 2, 4, 8, 5, 12], count)
    label = random.integers(0, 2, objects)[which] if objects else 0
    return Detections.of(copies, random.integers(1, 8, count) / 8, label, random.integers(0, 5, count), bits)


def same(a: Detections, b: Detections) -> None:
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column), err_msg=column)


# -------------------------------------------------------------------------------------------------------------- oracles


def oracle(found: Detections, config: MergeConfig) -> list[tuple[float, ...]]:
    """x1 y1 x2 y2 score of the merged rows, by the definitions, for whole boxes too big for the tiny rule."""
    rows = sorted(range(len(found)), key=lambda i: (-found.score[i], *found.xyxy[i].tolist(), int(found.label[i])))
    box = [found.xyxy[i].astype(float) for i in rows]
    score = [float(found.score[i]) for i in rows]
    label = [0 if config.class_agnostic else int(found.label[i]) for i in rows]

    def match(a: np.ndarray, b: np.ndarray) -> float:
        value = float(boxes.pairwise(a[None], b[None], config.metric)[0, 0])
        return value if value >= config.threshold and value > 0 else 0.0

    if config.method == "nmm":
        clusters = connected(box, label, match)
    else:
        clusters, taken = [], [False] * len(box)
        for i in range(len(box)):
            if not taken[i]:
                mine = [
                    j for j in range(i + 1, len(box)) if not taken[j] and label[j] == label[i] and match(box[i], box[j])
                ]
                for j in mine:
                    taken[j] = True
                clusters.append([i, *mine])
    result = []
    for cluster in clusters:
        first = box[cluster[0]].copy()
        for j in cluster[1:]:
            if config.method == "nmm" or (config.method == "greedy_nmm" and match(first, box[j])):
                first = np.concatenate([np.minimum(first[:2], box[j][:2]), np.maximum(first[2:], box[j][2:])])
        if config.method == "fusion":
            weight = np.array([score[j] for j in cluster])
            first = (np.array([box[j] for j in cluster]) * weight[:, None]).sum(axis=0) / weight.sum()
        result.append((*first.tolist(), max(score[j] for j in cluster)))
    return sorted(result)


def connected(box: list, label: list, match) -> list[list[int]]:  # type: ignore[no-untyped-def]
    open_, clusters = set(range(len(box))), []
    while open_:
        cluster, todo = [], [min(open_)]
        open_.discard(todo[0])
        while todo:
            i = todo.pop()
            cluster.append(i)
            near = [j for j in sorted(open_) if label[j] == label[i] and match(box[i], box[j])]
            open_.difference_update(near)
            todo += near
        clusters.append(sorted(cluster))
    return clusters


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 45),
    method=st.sampled_from(["greedy_nmm", "nmm", "nms", "fusion"]),
    metric=st.sampled_from(["ios", "iou", "nwd"]),
    threshold=st.sampled_from([0.2, 0.5, 0.8]),
    class_agnostic=st.booleans(),
)
def test_methods_are_what_they_say(
    seed: int, count: int, method: str, metric: str, threshold: float, class_agnostic: bool
) -> None:
    config = MergeConfig(method=method, metric=metric, threshold=threshold, class_agnostic=class_agnostic)  # type: ignore[arg-type]
    found = crowd(count, seed)
    found = found[
        (found.xyxy[:, 2:] - found.xyxy[:, :2]).mean(axis=1) > TINY_PX
    ]  # the oracle knows no rule for tiny boxes
    merged = merge(found, config)
    got = sorted((*box, score) for box, score in zip(merged.xyxy.tolist(), merged.score.tolist()))
    np.testing.assert_allclose(np.array(got).reshape(-1, 5), np.array(oracle(found, config)).reshape(-1, 5), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40), threshold=st.sampled_from([0.2, 0.5]))
def test_soft_nms_is_the_textbook_loop(seed: int, count: int, threshold: float) -> None:
    found = crowd(count, seed)
    random = np.random.default_rng(seed)
    found = Detections.of(found.xyxy, random.random(count), found.label, found.tile)  # no ties
    score, decayed, done = found.score.astype(float), np.zeros(count, bool), np.zeros(count, bool)
    while not done.all():
        best = int(np.argmax(np.where(done, -1, score)))
        done[best] = True
        if decayed[best] and score[best] < 0.2:
            continue
        value = boxes.ios(found.xyxy[[best]].astype(float), found.xyxy.astype(float))[0]
        hit = ~done & (value >= threshold) & (value > 0) & (found.label == found.label[best])
        score[hit] *= 1 - value[hit]
        decayed |= hit
    kept = ~decayed | (score >= 0.2)
    merged = merge(found, MergeConfig(method="soft_nms", threshold=threshold))
    np.testing.assert_allclose(merged.score, np.sort(score[kept])[::-1], rtol=1e-5)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    method=st.sampled_from(METHODS),
    metric=st.sampled_from(["ios", "iou", "nwd"]),
    class_agnostic=st.booleans(),
)
def test_any_order_of_rows_gives_the_identical_result(
    seed: int, count: int, method: str, metric: str, class_agnostic: bool
) -> None:
    config = MergeConfig(method=method, metric=metric, class_agnostic=class_agnostic)  # type: ignore[arg-type]
    found = crowd(count, seed, whole=False, smallest=3)
    merged = merge(found, config)
    assert (np.diff(merged.score) <= 0).all()
    random = np.random.default_rng(seed)
    for _ in range(3):
        same(merged, merge(found[random.permutation(count)], config))


# ---------------------------------------------------------------------------------------------------------------- seams


@pytest.mark.parametrize("method", METHODS)
def test_a_piece_yields_to_the_whole_whichever_scored_higher(method: str) -> None:
    for whole_score, piece_score in ((0.4, 0.9), (0.9, 0.4)):
        found = Detections.of(
            [[100, 50, 140, 90], [128, 52, 143, 91]], [whole_score, piece_score], 3, [0, 1], [0, LEFT]
        )
        merged = merge(found, MergeConfig(method=method))  # type: ignore[arg-type]
        assert merged.xyxy.tolist() == [[100, 50, 140, 90]]
        assert merged.score[0] == np.float32(0.9)
        assert (merged.label[0], merged.tile[0], merged.truncated[0]) == (3, 0, 0)


def test_whole_copies_still_grow_as_in_sahi() -> None:
    found = Detections.of([[100, 50, 140, 90], [102, 50, 143, 91]], [0.9, 0.4], 0, [0, 1])
    assert merge(found, MergeConfig()).xyxy.tolist() == [[100, 50, 143, 91]]


def test_a_piece_does_not_yield_to_another_class_or_within_its_tile() -> None:
    box, score = [[100, 50, 140, 90], [128, 50, 140, 90]], [0.4, 0.9]
    assert len(merge(Detections.of(box, score, [0, 1], [0, 1], [0, LEFT]), MergeConfig())) == 2
    merged = merge(Detections.of(box, score, [0, 1], [0, 1], [0, LEFT]), MergeConfig(class_agnostic=True))
    assert (merged.xyxy.tolist(), merged.label.tolist()) == ([[100, 50, 140, 90]], [1])  # the label that scored best
    apart = [[100, 50, 140, 90], [128, 50, 156, 90]]
    assert len(merge(Detections.of(apart, score, 0, 0, [0, LEFT]), MergeConfig())) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strip", [0, 4, 30])
def test_a_long_object_cut_by_three_tiles_is_one_box(method: str, strip: int) -> None:
    pieces = [[20, 40, 100, 80], [100 - strip, 41, 200, 80], [200 - strip, 40, 290, 79]]
    found = Detections.of(pieces, [0.5, 0.8, 0.6], 0, [0, 1, 2], [RIGHT, LEFT | RIGHT, LEFT])
    merged = merge(found, MergeConfig(method=method))  # type: ignore[arg-type]
    assert merged.xyxy.tolist() == [[20, 40, 290, 80]]
    assert (merged.score[0], merged.tile[0], merged.truncated[0]) == (np.float32(0.8), 1, 0)


def test_a_big_object_over_four_tiles_is_one_box_and_knows_where_it_is_still_cut() -> None:
    pieces = [[40, 30, 100, 100], [80, 30, 160, 100], [40, 80, 100, 150], [80, 80, 160, 150]]
    bits = [RIGHT | BOTTOM, LEFT | BOTTOM, RIGHT | TOP, LEFT | TOP]
    merged = merge(Detections.of(pieces, [0.5, 0.6, 0.7, 0.8], 0, [0, 1, 2, 3], bits), MergeConfig())
    assert merged.xyxy.tolist() == [[40, 30, 160, 150]]
    assert merged.truncated[0] == 0
    upper = merge(Detections.of(pieces[:2], [0.5, 0.6], 0, [0, 1], bits[:2]), MergeConfig())
    assert upper.xyxy.tolist() == [[40, 30, 160, 100]]
    assert upper.truncated[0] == BOTTOM


@pytest.mark.parametrize("strip", [10, 30])
def test_two_objects_side_by_side_at_a_seam_stay_two(strip: int) -> None:
    """Tiles 0..150 and (150-strip)..: each tile sees one person whole and a slice of the other."""
    edge = 150 - strip
    left, right = [100, 50, 143, 150], [145, 52, 190, 151]
    slices = [
        [edge, 50, 143, 150],
        [145, 52, 150, 151],
    ]  # of the left one in the right tile; of the right one in the left
    found = Detections.of(
        [left, slices[1], slices[0], right], [0.8, 0.6, 0.7, 0.9], 0, [0, 0, 1, 1], [0, RIGHT, LEFT, 0]
    )
    for method in ("greedy_nmm", "nmm", "nms", "fusion"):
        assert sorted(merge(found, MergeConfig(method=method)).xyxy.tolist()) == [left, right]
    only_slices = found[[1, 2]]  # both persons missed where they are whole: still two slices, not one box
    assert len(merge(only_slices, MergeConfig())) == 2


def test_pieces_of_unlike_extent_are_not_joined() -> None:
    for other in ([80, 120, 160, 190], [80, 75, 160, 150]):  # elsewhere along the seam; overlapping a little
        found = Detections.of([[20, 40, 100, 90], other], [0.5, 0.6], 0, [0, 1], [RIGHT, LEFT])
        assert len(merge(found, MergeConfig())) == 2
    gap = Detections.of([[20, 40, 100, 90], [108, 40, 160, 90]], [0.5, 0.6], 0, [0, 1], [RIGHT, LEFT])
    assert len(merge(gap, MergeConfig())) == 2
    same_tile = Detections.of([[20, 40, 100, 90], [90, 40, 160, 90]], [0.5, 0.6], 0, 1, [RIGHT, LEFT])
    assert len(merge(same_tile, MergeConfig())) == 2
    wrong_way = Detections.of([[20, 40, 100, 90], [90, 40, 160, 90]], [0.5, 0.6], 0, [0, 1], [LEFT, RIGHT])
    assert len(merge(wrong_way, MergeConfig())) == 2


def test_two_overlapping_long_objects_join_each_with_its_own_piece() -> None:
    """Two cars, one a little lower, both cut by the seam: four pieces, two cars."""
    found = Detections.of(
        [[20, 40, 100, 80], [30, 62, 100, 100], [70, 41, 160, 80], [70, 62, 170, 101]],
        [0.5, 0.6, 0.7, 0.8],
        0,
        [0, 0, 1, 1],
        [RIGHT, RIGHT, LEFT, LEFT],
    )
    assert sorted(merge(found, MergeConfig(threshold=0.7)).xyxy.tolist()) == [[20, 40, 160, 80], [30, 62, 170, 101]]


# ----------------------------------------------------------------------------------------------------------------- tiny


@pytest.mark.parametrize("metric", ["ios", "iou", "nwd"])
@pytest.mark.parametrize("move", [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
def test_copies_of_a_four_px_ball_merge(metric: str, move: tuple[int, int]) -> None:
    ball = np.array([[500.0, 300, 504, 304]])
    found = Detections.of(np.concatenate([ball, boxes.shift(ball, move)]), [0.6, 0.5], 0, [0, 1])
    assert len(merge(found, MergeConfig(metric=metric))) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["ios", "iou", "nwd"])
@pytest.mark.parametrize("move", [(6, 0), (0, -6), (5, 4)])
@pytest.mark.parametrize("tiles", [(0, 1), (0, 0)])
def test_two_balls_six_px_apart_stay_two(metric: str, move: tuple[int, int], tiles: tuple[int, int]) -> None:
    ball = np.array([[500.0, 300, 504, 304]])
    found = Detections.of(np.concatenate([ball, boxes.shift(ball, move)]), [0.6, 0.5], 0, tiles)
    assert len(merge(found, MergeConfig(metric=metric))) == 2  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("method", METHODS)
def test_nothing_one_row_and_degenerate_boxes(method: str) -> None:
    merger = Merger(MergeConfig(method=method))  # type: ignore[arg-type]
    assert len(merger(Detections.empty())) == 0
    assert len(merger(Detections.of([[1, 2, 3, 4]], 0.5))) == 1
    points = Detections.of(np.full((5, 4), 7.0), 0.5, 0, 0, [0, 1, 2, 4, 8])
    assert len(merger(points)) >= 1
    same(merger(points), merger(points[::-1]))


def test_merging_twice_changes_nothing_with_nms() -> None:
    once = merge(crowd(200, 1), MergeConfig(method="nms"))
    same(once, merge(once, MergeConfig(method="nms")))


def test_ten_thousand_boxes_take_milliseconds() -> None:
    random = np.random.default_rng(0)
    corner = random.uniform(0, [3840, 2160], (2500, 2))
    box = np.concatenate([corner, corner + random.uniform(8, 40, (2500, 2))], axis=1).repeat(4, axis=0)
    found = Detections.of(box + random.normal(0, 1, box.shape), random.random(10_000), 0, np.arange(10_000) % 4)
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        merged = merge(found, MergeConfig())
        spent.append(time.perf_counter() - start)
    assert 1500 < len(merged) < 2600
    assert min(spent) < 0.25  # 10 to 15 ms on an idle core; the bound only tells it from a quadratic one (seconds)


# ---------------------------------------------------------------------------------------------------- a whole plan of tiles


def seen_in_tiles(
    truth: np.ndarray, frame_wh: tuple[int, int], tile: int, overlap: int, seed: int, jitter_px: float
) -> Detections:
    """What a detector tells of `truth` in every tile: what shows there, a little wrong, if enough of it shows."""
    random = np.random.default_rng(seed)
    starts = [sorted({*range(0, size - tile, tile - overlap), size - tile}) for size in frame_wh]
    tiles = np.array([[x, y, x + tile, y + tile] for y in starts[1] for x in starts[0]], np.int32)
    n = len(tiles)
    plan = TilePlan(frame_wh, (tile, tile), tiles, np.ones((n, 2), np.float32), np.zeros(n, np.uint8), n)
    found = []
    for number, area in enumerate(tiles.astype(float)):
        noisy = truth + random.normal(0, jitter_px, truth.shape)
        visible = np.concatenate([np.maximum(noisy[:, :2], area[:2]), np.minimum(noisy[:, 2:], area[2:])], axis=1)
        shows = (visible[:, 2:] - visible[:, :2] >= 3).all(axis=1)
        box = visible[shows].astype(np.float32)
        index = np.full(len(box), number, np.int32)
        found.append(Detections.of(box, random.uniform(0.3, 1, len(box)), 0, index, plan.truncated(box, index)))
    return Detections.concat(found)


def scattered_apart(
    count: int, sides: tuple[float, float], frame_wh: tuple[int, int], gap: float, seed: int
) -> np.ndarray:
    random, kept = np.random.default_rng(seed), np.zeros((0, 4))
    for _ in range(count * 4):
        corner = random.uniform(0, frame_wh)
        box = np.concatenate([corner, corner + random.uniform(*sides, 2)])[None]
        grown = box + np.array([-gap, -gap, gap, gap])
        if (box[0, 2:] < frame_wh).all() and not boxes.intersection(grown, kept).any():
            kept = np.concatenate([kept, box])
    return kept[:count]


@pytest.mark.parametrize("method", ["greedy_nmm", "nmm", "nms", "fusion"])
@pytest.mark.parametrize(
    ("sides", "count", "gap", "jitter_px", "error_px"),
    [((5, 7), 150, 7, 0.4, 3), ((8, 60), 120, 3, 0.5, 4), ((100, 400), 12, 8, 0.8, 8)],
    ids=["tiny", "small", "large"],
)
def test_every_object_of_a_tiled_frame_is_one_row(
    method: str, sides: tuple[float, float], count: int, gap: float, jitter_px: float, error_px: float
) -> None:
    for seed in range(6):
        truth = scattered_apart(count, sides, (1280, 960), gap, seed)
        found = seen_in_tiles(truth, (1280, 960), 320, 64, seed, jitter_px)
        assert len(found) > len(truth)
        merged = merge(found, MergeConfig(method=method))  # type: ignore[arg-type]
        off = np.abs(merged.xyxy[:, None].astype(float) - truth[None]).max(axis=2)
        assert len(merged) == len(truth)
        assert sorted(off.argmin(axis=1).tolist()) == list(range(len(truth)))
        assert off.min(axis=1).max() < error_px
        assert not merged.truncated.any()


def test_weak_rows_beside_merged_ones_are_no_copies() -> None:
    merger = Merger()
    merged = Detections.of([[10, 10, 20, 20]], [0.9])
    weak = Detections.of(
        [[11, 10, 21, 20], [40, 40, 50, 50], [41, 40, 51, 50], [80, 80, 90, 90]], [0.2, 0.12, 0.15, 0.1]
    )
    left = merger.beside(merged, weak)
    assert left.xyxy[:, 0].tolist() == [41, 80]
    np.testing.assert_allclose(left.score, [0.15, 0.1])
    assert len(merger.beside(merged, Detections.empty())) == 0
    assert merger.beside(Detections.empty(), weak[3:]).xyxy[:, 0].tolist() == [80]
