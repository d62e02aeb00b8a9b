"""The motion pass against the motion model's own parts: block maxima, background, and which tiles that picks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_battery import tiles_of
from mutants import survives
from shim import PACKAGE, Shim, guarded

from streamdet.motion.activity import BLOCK_PX, BlockMaxima
from streamdet.motion.background import Background
from streamdet.tiles.motion_layout import ENERGY, MOTION, PICKING
from streamdet.tiles.program import tile_rows


def laid(plane: Any, pitch: int) -> Any:
    """A (H, W) plane as guarded memory with rows `pitch` apart, and the view that shows it."""
    height, width = plane.shape
    memory = guarded((height - 1) * pitch + width)
    memory[:] = np.random.default_rng(int(plane.sum())).integers(
        0, 256, len(memory)
    )  # what lies beside the rows is no picture
    view = np.ndarray(plane.shape, np.uint8, buffer=memory, strides=(pitch, 1))
    view[:] = plane
    return memory, view


def run(
    shim: Shim, now: Any, before: Any, background: Any, levels: Any, frozen: Any, threshold: int, pitch: int
) -> dict[str, Any]:
    """One launch: the blocks' figures, and the background as it is afterwards."""
    height, width = now.shape
    shape = -(-height // BLOCK_PX), -(-width // BLOCK_PX)
    out = {
        name: np.full(shape, 77, kind)
        for name, kind in (("change", "u1"), ("away", "u1"), ("sum", "u2"), ("moved", "u2"))
    }
    planes = {
        name: laid(plane, pitch) for name, plane in (("now", now), ("before", before), ("background", background))
    }
    job = np.zeros((), MOTION)
    for name, (memory, _) in planes.items():
        job[name], job[f"pitch_{name}"] = memory.ctypes.data, pitch
    for name, array in {**out, "levels": levels, "frozen": frozen}.items():
        job[name] = array.ctypes.data
    job["width"], job["height"], job["threshold"] = width, height, threshold
    shim.launch("motion_blocks", (-(-shape[1] // 128), shape[0], 1), 128, job)
    return {**out, "background": planes["background"][1].copy()}


@pytest.mark.parametrize("wh", [(128, 64), (130, 70), (97, 73), (16, 16), (5, 3), (2100, 33)])
@pytest.mark.parametrize("extra", [0, 14, 16, 5])
def test_blocks_are_those_of_the_motion_model(wh: tuple[int, int], extra: int, tile_kernel: Shim) -> None:
    rng = np.random.default_rng(wh[0] + extra)
    now, before, background = (rng.integers(0, 256, wh[::-1]).astype(np.uint8) for _ in range(3))
    shape = -(-wh[1] // BLOCK_PX), -(-wh[0] // BLOCK_PX)
    levels, frozen = np.zeros(-(-wh[1] // 64), np.uint8), np.zeros(shape, np.uint8)
    got = run(tile_kernel, now, before, background, levels, frozen, 30, wh[0] + extra)
    maxima = BlockMaxima(wh)
    np.testing.assert_array_equal(got["change"], maxima(now, before))
    np.testing.assert_array_equal(got["away"], maxima(now, background))
    np.testing.assert_array_equal(got["background"], background)
    change = np.abs(now.astype(int) - before)
    for row in range(shape[0]):
        for column in range(shape[1]):
            block = change[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            assert got["sum"][row, column] == block.sum()
            assert got["moved"][row, column] == (block > 30).sum()


@pytest.mark.parametrize("wh", [(128, 200), (97, 150)])
def test_the_background_learns_as_the_motion_model_lets_it(wh: tuple[int, int], tile_kernel: Shim) -> None:
    """Background.update with this frame before, then the difference to what it has become."""
    rng = np.random.default_rng(7)
    first = rng.integers(0, 256, wh[::-1]).astype(np.uint8)
    law = Background(first, 2.0)
    plane = first
    for step in range(12):
        before, now = (rng.integers(0, 256, wh[::-1]).astype(np.uint8) for _ in range(2))
        frozen = rng.random((-(-wh[1] // BLOCK_PX), -(-wh[0] // BLOCK_PX))) < 0.2
        levels = np.zeros(-(-wh[1] // 64), np.uint8)
        due = law._due + law._rate * (1.0 + 4.0 * np.exp(-law._age_s / 0.5)) * 0.04
        levels[due >= law._least] = due[due >= law._least].astype(np.uint8)
        law.update(before, 0.04, frozen)
        got = run(tile_kernel, now, before, plane, levels, frozen.astype(np.uint8), 10, wh[0] + 7)
        np.testing.assert_array_equal(got["background"], law.plane, err_msg=f"step {step}")
        np.testing.assert_array_equal(got["away"], BlockMaxima(wh)(now, law.plane))
        plane = got["background"]
    assert (plane != first).mean() > 0.3


def pick(
    shim: Shim, tiles: Any, blocks: dict[str, Any], must: Any, room: int, level: int, moved: int
) -> tuple[Any, Any, int]:
    """Energies, the list, and how many were picked."""
    table = tile_rows(tiles)
    energy, picked, count = np.zeros(len(table), ENERGY), np.full(len(table), -9, np.int32), np.full(1, -9, np.int32)
    job = np.zeros((), PICKING)
    for name, array in {
        **blocks,
        "tiles": table,
        "must": must,
        "energy": energy,
        "picked": picked,
        "count": count,
    }.items():
        job[name] = array.ctypes.data
    job["tile_count"], (job["rows"], job["columns"]) = len(table), blocks["change"].shape
    job["least_level"], job["least_moved"], job["room"] = level, moved, room
    shim.launch("tile_energy", (len(table), 1, 1), 128, job)
    shim.launch("pick_tiles", (-(-len(table) // 128), 1, 1), 128, job)
    return energy, picked, int(count[0])


@pytest.mark.parametrize("seed", range(5))
def test_tiles_are_picked_by_the_blocks_they_touch(seed: int, tile_kernel: Shim) -> None:
    rng = np.random.default_rng(seed)
    wh = 300, 200
    shape = -(-wh[1] // BLOCK_PX), -(-wh[0] // BLOCK_PX)
    quiet = rng.random(shape) < 0.9
    blocks = {
        "change": np.where(quiet, 3, rng.integers(0, 256, shape)).astype(np.uint8),
        "away": np.where(quiet, 2, rng.integers(0, 256, shape)).astype(np.uint8),
        "sum": rng.integers(0, 60000, shape).astype(np.uint16),
        "moved": np.where(quiet, 0, rng.integers(0, 257, shape)).astype(np.uint16),
    }
    boxes = [[x, y, min(x + 64, 300), min(y + 48, 200)] for y in range(0, 160, 37) for x in range(0, 250, 51)]
    tiles = tiles_of(wh, boxes, (64, 48))
    must = (rng.random(len(boxes)) < 0.1).astype(np.uint8)
    energy, picked, count = pick(tile_kernel, tiles, blocks, must, len(boxes), 40, 20)
    wanted = []
    for row, (x1, y1, x2, y2) in enumerate(boxes):
        touched = np.s_[y1 // 16 : -(-y2 // 16), x1 // 16 : -(-x2 // 16)]
        assert energy[row]["change"] == blocks["change"][touched].max()
        assert energy[row]["away"] == blocks["away"][touched].max()
        assert energy[row]["sum"] == blocks["sum"][touched].sum(dtype=int)
        assert energy[row]["moved"] == blocks["moved"][touched].sum(dtype=int)
        if must[row] or (energy[row]["away"] >= 40 and energy[row]["moved"] >= 20):
            wanted.append(row)
    assert 0 < len(wanted) < len(boxes)
    assert count == len(wanted)
    assert picked[:count].tolist() == wanted
    _, short, counted = pick(tile_kernel, tiles, blocks, must, 3, 40, 20)
    assert counted == len(wanted)
    assert short.tolist() == wanted[:3] + [-9] * (len(boxes) - 3)  # what has no room is counted only


MUTANTS = {
    "background moves by one level too many": ("max(max(old - levels, 0)", "max(max(old - levels - 1, 0)"),
    "background learns from this frame": (
        "min(min(old + levels, 255), (int)before)",
        "min(min(old + levels, 255), (int)now)",
    ),
    "frozen blocks learn too": ("m.frozen[block] ? 0 : m.levels", "m.levels"),
    "stripes of half the height": ("top / (4 * BLOCK_PX)", "top / (2 * BLOCK_PX) % 2"),
    "difference to the background as it was": ("abs((int)now - (int)background)", "abs((int)now - old)"),
    "threshold itself counts": ("change > threshold", "change >= threshold"),
    "blocks at the right read whole": ("const bool whole = wide == BLOCK_PX &&", "const bool whole ="),
    "rows beyond the last": ("min(top + BLOCK_PX, m.height)", "top + BLOCK_PX"),
    "a tile's last blocks left out": ("(tile.x2 - 1) / BLOCK_PX + 1", "tile.x2 / BLOCK_PX"),
    "one wanted tile listed twice": ("for (int i = 0; i < row; i++) before", "for (int i = 1; i < row; i++) before"),
}


def _verdict(text: str, folder: str) -> str:
    shim = Shim("tiles/kernel", Path(folder), text=text, optimise="-O0")
    try:
        for wh, extra in (((130, 70), 14), ((128, 64), 0), ((97, 73), 5)):
            test_blocks_are_those_of_the_motion_model(wh, extra, shim)
        test_the_background_learns_as_the_motion_model_lets_it((128, 200), shim)
        for seed in range(5):
            test_tiles_are_picked_by_the_blocks_they_touch(seed, shim)
    except AssertionError as error:
        return str(error) or "wrong"
    return ""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    text = (PACKAGE / "tiles/kernel.cu").read_text()
    good, bad = MUTANTS[name]
    assert text.count(good) == 1, "the source has changed: plant the bug anew"
    assert not survives(_verdict, text.replace(good, bad), tmp_path)


def test_the_source_itself_survives(tmp_path: Path) -> None:
    assert survives(_verdict, (PACKAGE / "tiles/kernel.cu").read_text(), tmp_path)
