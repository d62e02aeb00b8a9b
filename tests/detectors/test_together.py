"""Tiles of several streams in one run give, to the last digit, what they give one after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detector_graphs import batch_of, plan_of

from streamdet.assemble import find_model
from streamdet.config import ModelConfig
from streamdet.detectors.backend import Rows, chunks, joined
from streamdet.detectors.network import open_detector
from streamdet.types import TileBatch


def batch(seed: int, tiles: int, side: int) -> TileBatch:
    """Noise with bright dots that the network takes for something."""
    random = np.random.default_rng(seed)
    data = random.normal(0.4, 0.05, (tiles, 6, side, side)).astype(np.float32)
    data[:, 3:] = random.normal(0, 0.05, (tiles, 3, side, side))
    for tile in range(tiles):
        for _ in range(4):
            y, x = random.integers(10, side - 20, 2)
            data[tile, :, y : y + 6, x : x + 6] = 1.5
    boxes = [[side * tile, 0, side * tile + side, side] for tile in range(tiles)]
    return batch_of(data, plan_of((side * max(tiles, 1), side), boxes, (side, side)))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_together_is_as_one_by_one(backend: str) -> None:
    path = find_model("tiny")
    assert path is not None
    batches = [batch(1, 3, 128), batch(2, 0, 128), batch(3, 1, 128), batch(4, 2, 96), batch(5, 5, 128)]
    with open_detector(ModelConfig(backend=backend, threads=2), path) as detector:  # type: ignore[arg-type]
        alone = [detector(one) for one in batches]
        before = detector.counts["tiles"]
        together = detector.together(batches)
        assert detector.counts["tiles"] - before == 11
    assert sum(map(len, alone)) > 5
    for one, both in zip(alone, together, strict=True):
        np.testing.assert_allclose(both.xyxy, one.xyxy, atol=1e-3)
        np.testing.assert_allclose(both.score, one.score, atol=1e-5)
        assert both.tile.tolist() == one.tile.tolist()
        assert both.label.tolist() == one.label.tolist()


@pytest.mark.parametrize("step", [1, 2, 3, 4, 16])
def test_rows_over_several_arrays_are_cut_as_if_they_lay_in_one(step: int) -> None:
    random = np.random.default_rng(0)
    parts = [random.random((count, 2, 3), np.float32) for count in (3, 1, 5)]
    rows = joined(parts)
    assert isinstance(rows, Rows)
    assert rows.shape == (9, 2, 3)
    whole = np.concatenate(parts)
    for (first, count, got), (first_too, count_too, want) in zip(chunks(rows, step), chunks(whole, step), strict=True):
        assert (first, count) == (first_too, count_too)
        np.testing.assert_array_equal(got, want)
    assert joined(parts[:1]) is parts[0]


def test_one_tile_at_a_time_is_not_copied(tmp_path: Path) -> None:
    parts = [np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)]
    for first, _, piece in chunks(joined(parts), 1):
        assert np.shares_memory(piece, parts[first // 2])
