"""Cases of the motion pass, for any place that runs its kernels: g++ in the tests, a card in benchmarks/gpu/kernel_checks.py.

Each is held against the motion model's own parts; a case that is wrong raises AssertionError.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from shim import guarded, placed

from streamdet.motion.activity import BLOCK_PX, BlockMaxima
from streamdet.motion.background import Background, Turns
from streamdet.motion.light import grid_of, sample
from streamdet.tiles.motion_layout import LEVELS, MOTION, POINTS


def laid(plane: Any, pitch: int) -> Any:
    """A (H, W) plane as guarded memory with rows `pitch` apart, and the view that shows it."""
    height, width = plane.shape
    memory = guarded((height - 1) * pitch + width * plane.itemsize)
    memory[:] = np.random.default_rng(int(plane.sum())).integers(0, 256, len(memory))  # beside the rows is no picture
    view = np.ndarray(plane.shape, plane.dtype, buffer=memory, strides=(pitch, plane.itemsize))
    view[:] = plane
    return memory, view


class Pass:
    """One frame through all kernels of the pass."""

    def __init__(
        self, shim: Any, now: Any, before: Any, background: Any, *, pitch: int, levels: Any = None, frozen: Any = None,
        limit: Any = None, heal: Any = (), room: int = 10_000,
    ) -> None:  # fmt: skip
        height, width = now.shape
        rows, columns = shape = -(-height // BLOCK_PX), -(-width // BLOCK_PX)
        first, step = grid_of(now.shape)
        grid = len(range(first, height, step)), len(range(first, width, step))
        self.change, self.away = (placed(np.full(shape, 77, np.uint8)) for _ in range(2))
        self.sample = placed(np.full((2, grid[0] * grid[1]), 77, np.uint8))
        self.counter, self.listed = (
            placed(np.zeros(1, np.int32)),
            placed(np.full(min(room, rows * columns), -9, np.int32)),
        )
        self.pixels = placed(np.full((len(self.listed), 3, BLOCK_PX, BLOCK_PX), 77, np.uint8))
        given = {
            "levels": np.zeros(-(-height // 64), np.uint8) if levels is None else levels,
            "frozen": np.zeros(shape, np.uint8) if frozen is None else frozen,
            "limit": np.full(shape, 255, np.uint8) if limit is None else limit,
            "heal": np.array(heal, np.int32),
        }
        self._kept = {name: placed(array) for name, array in given.items()}
        job = placed(np.zeros((), MOTION))
        for name, plane in (("now", now), ("before", before), ("background", background)):
            memory, view = laid(plane, pitch)
            job[name], job[f"pitch_{name}"] = memory.ctypes.data, pitch
            self._kept[f"plane {name}"] = view
        out = {"change": self.change, "away": self.away, "sample": self.sample, "count": self.counter}
        for name, array in {**self._kept, **out, "listed": self.listed, "pixels": self.pixels}.items():
            if name in MOTION.names and array.size:
                job[name] = array.ctypes.data
        job["width"], job["height"], job["heals"], job["room"] = width, height, len(heal), len(self.listed)
        job["grid_first"], job["grid_step"], job["grid_rows"], job["grid_columns"] = first, step, *grid
        blocks = (-(-columns // 128), rows, 1)
        shim.launch("heal_background", (2, 1, 1), 128, job)
        shim.launch("motion_blocks", blocks, 128, job)
        shim.launch("sample_grid", (-(-grid[1] // 128), grid[0], 1), 128, job)
        shim.launch("list_blocks", blocks, 128, job)
        shim.launch("gather_blocks", (len(self.listed), 1, 1), 64, job)
        self.background = self._kept["plane background"].copy()
        self.count = int(self.counter[0])


def noise(seed: int, wh: tuple[int, int], count: int) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, wh[::-1]).astype(np.uint8) for _ in range(count))


def blocks_and_samples(wh: tuple[int, int], extra: int, shim: Any) -> None:
    now, before, background = noise(wh[0] + extra, wh, 3)
    got = Pass(shim, now, before, background, pitch=wh[0] + extra)
    maxima = BlockMaxima(wh)
    np.testing.assert_array_equal(got.change, maxima(now, before))
    np.testing.assert_array_equal(got.away, maxima(now, background))
    np.testing.assert_array_equal(got.background, background)
    np.testing.assert_array_equal(got.sample[0], sample(now))
    np.testing.assert_array_equal(got.sample[1], sample(background))


def samples_of_a_large_picture(shim: Any) -> None:
    now, before, background = noise(1, (1930, 1090), 3)
    got = Pass(shim, now, before, background, pitch=1936, levels=np.full(18, 3, np.uint8))
    assert grid_of(now.shape)[1] == 8
    np.testing.assert_array_equal(got.sample[0], sample(now))
    np.testing.assert_array_equal(got.sample[1], sample(got.background))


def background_learns(wh: tuple[int, int], shim: Any) -> None:
    """Background.heal and .update with the frame before, then the difference to what it has become."""
    rng = np.random.default_rng(7)
    (first,) = noise(7, wh, 1)
    law, turns, plane = Background(first, 2.0), Turns(first.shape, 2.0), first
    for step in range(12):
        before, now = noise(20 + step, wh, 2)
        frozen = rng.random((-(-wh[1] // BLOCK_PX), -(-wh[0] // BLOCK_PX))) < 0.2
        mask = (rng.random((20, 30)) < 0.4).astype(np.uint8)
        x, y = int(rng.integers(0, wh[0] - 30)), int(rng.integers(0, wh[1] - 20))
        law.heal(before, [(x, y, mask)])
        law.update(before, 0.04, frozen)
        down, across = np.nonzero(mask)
        got = Pass(
            shim, now, before, plane, pitch=wh[0] + 7, levels=turns.levels(0.04), frozen=frozen.astype(np.uint8),
            heal=(down + y) * wh[0] + across + x,
        )  # fmt: skip
        np.testing.assert_array_equal(got.background, law.plane, err_msg=f"step {step}")
        np.testing.assert_array_equal(got.away, BlockMaxima(wh)(now, law.plane))
        plane = got.background
    assert (plane != first).mean() > 0.3


def blocks_are_fetched(wh: tuple[int, int], shim: Any) -> None:
    rng = np.random.default_rng(wh[0])
    (background,) = noise(3, wh, 1)
    now, before = background.copy(), background.copy()
    for x, y in zip(rng.integers(0, wh[0], 5), rng.integers(0, wh[1], 5), strict=True):
        now[y, x] ^= 64
        before[y, x] ^= 3
    now[-1, -1] ^= 128
    limit = rng.integers(60, 70, (-(-wh[1] // BLOCK_PX), -(-wh[0] // BLOCK_PX))).astype(np.uint8)
    got = Pass(shim, now, before, background, pitch=wh[0] + 16 - wh[0] % 16, limit=limit)
    active = BlockMaxima(wh)(now, background) > limit
    wanted = np.flatnonzero(cv2.dilate(active.astype(np.uint8), np.ones((3, 3), np.uint8)))
    assert sorted(got.listed[: got.count].tolist()) == wanted.tolist()
    assert (got.listed[got.count :] == -9).all()
    columns = active.shape[1]
    for row, block in enumerate(got.listed[: got.count].tolist()):
        y, x = block // columns * BLOCK_PX, block % columns * BLOCK_PX
        for which, plane in enumerate((now, before, background)):
            part = plane[y : y + BLOCK_PX, x : x + BLOCK_PX]
            whole = np.zeros((BLOCK_PX, BLOCK_PX), np.uint8)
            whole[: part.shape[0], : part.shape[1]] = part
            np.testing.assert_array_equal(got.pixels[row, which], whole)
    assert (got.pixels[got.count :] == 77).all()


def no_room(shim: Any) -> None:
    now, before, background = noise(5, (200, 100), 3)
    got = Pass(shim, now, before, background, pitch=208, limit=np.zeros((7, 13), np.uint8), room=4)
    assert got.count == 7 * 13
    assert len(set(got.listed.tolist())) == 4
    assert min(got.listed.tolist()) >= 0


def levels_and_ten_bits(wh: tuple[int, int], pitch: int, shim: Any) -> None:
    rng = np.random.default_rng(wh[0])
    table = rng.permutation(256).astype(np.uint8)
    for wide in (False, True):
        plane = (
            rng.integers(0, 1024, wh[::-1]).astype(np.uint16) * 64
            if wide
            else rng.integers(0, 256, wh[::-1]).astype(np.uint8)
        )
        (memory, _), (target, view), lookup = (
            laid(plane, pitch),
            laid(np.zeros(wh[::-1], np.uint8), pitch),
            placed(table),
        )
        beside = target.copy()
        job = placed(np.zeros((), LEVELS))
        job["from"], job["to"], job["table"] = memory.ctypes.data, target.ctypes.data, lookup.ctypes.data
        job["pitch_from"], job["pitch_to"], job["width"], job["height"], job["wide"] = pitch, pitch, *wh, wide
        shim.launch("map_levels", (-(-wh[0] // 512), wh[1], 1), 128, job)
        eight = np.minimum((plane.astype(int) + 128) // 256, 255) if wide else plane
        np.testing.assert_array_equal(view, table[eight])
        shown = np.ndarray(wh[::-1], np.uint8, buffer=beside, strides=(pitch, 1))
        shown[:] = view
        np.testing.assert_array_equal(target, beside)  # and nothing beside it


def learning_on_wide_loads(shim: Any) -> None:
    before, now, background = noise(9, (128, 64), 3)
    law = Background(background, 2.0)
    levels = np.full(1, 9, np.uint8)
    law._turns.levels = lambda dt_s: levels  # type: ignore[method-assign]
    law.update(before, 0.04, np.zeros((4, 8), bool))
    got = Pass(shim, now, before, background, pitch=128, levels=levels)
    np.testing.assert_array_equal(got.background, law.plane)
    np.testing.assert_array_equal(got.away, BlockMaxima((128, 64))(now, law.plane))


def limits_met_exactly(shim: Any) -> None:
    now = np.full((48, 48), 60, np.uint8)
    got = Pass(shim, now, now, now - np.uint8(20), pitch=64, limit=np.full((3, 3), 20, np.uint8))
    assert got.count == 0
    # an odd pitch: no row but the first begins at 16 bytes
    got = Pass(shim, now, now, now - np.uint8(20), pitch=53, limit=np.full((3, 3), 19, np.uint8))
    assert got.count == 9


def points(wh: tuple[int, int], wide: bool, shim: Any) -> None:
    """Luma, u and v at places in and at the edges of a picture."""
    rng, half = np.random.default_rng(wh[0]), (-(-wh[0] // 2), -(-wh[1] // 2))
    kind, most = (np.uint16, 1024) if wide else (np.uint8, 256)
    factor = 64 if wide else 1
    luma = (rng.integers(0, most, wh[::-1]) * factor).astype(kind)
    chroma = (rng.integers(0, most, (half[1], 2 * half[0])) * factor).astype(kind)
    pitch = 2 * (wh[0] + 7) * luma.itemsize
    (at_luma, _), (at_chroma, _) = laid(luma, pitch), laid(chroma, pitch + 2)
    x = placed(np.array([0, wh[0] - 1, *rng.integers(0, wh[0], 200)], np.int32))
    y = placed(np.array([wh[1] - 1, 0, *rng.integers(0, wh[1], 200)], np.int32))
    out = placed(np.full((3, len(x)), 77, np.uint8))
    job = placed(np.zeros((), POINTS))
    job["x"], job["y"], job["luma"], job["chroma"] = (array.ctypes.data for array in (x, y, at_luma, at_chroma))
    job["out"], job["pitch_luma"], job["pitch_chroma"], job["count"], job["wide"] = (
        out.ctypes.data,
        pitch,
        pitch + 2,
        len(x),
        wide,
    )
    shim.launch("sample_points", (-(-len(x) // 128), 1, 1), 128, job)

    def eight(samples: Any) -> Any:
        return np.minimum((samples.astype(int) + 128) // 256, 255) if wide else samples

    np.testing.assert_array_equal(out[0], eight(luma[y, x]))
    np.testing.assert_array_equal(out[1], eight(chroma[y // 2, x // 2 * 2]))
    np.testing.assert_array_equal(out[2], eight(chroma[y // 2, x // 2 * 2 + 1]))


_SIZES = [(128, 64), (130, 70), (97, 73), (16, 16), (5, 3), (2100, 33), (400, 400)]
CASES: dict[str, tuple[Callable[..., None], Any]] = {
    f"{check.__name__} {arguments}": (check, arguments)
    for check, arguments in [
        *((blocks_and_samples, pair) for pair in itertools.product(_SIZES, (0, 14, 16, 5))),
        *((background_learns, (wh,)) for wh in ((128, 200), (97, 150))),
        *((blocks_are_fetched, (wh,)) for wh in ((200, 150), (97, 73), (16, 16), (1, 1))),
        *((levels_and_ten_bits, pair) for pair in (((97, 20), 194), ((130, 9), 264), ((3, 2), 8))),
        *((points, pair) for pair in itertools.product(((97, 73), (1, 1), (64, 48)), (False, True))),
        *((check, ()) for check in (samples_of_a_large_picture, no_room, learning_on_wide_loads, limits_met_exactly)),
    ]
}


def wrong(shim: Any, *, slow: bool = True) -> Iterator[tuple[str, str]]:
    """Cases that are not what they should be, and how."""
    for name, (check, arguments) in CASES.items():
        if check is samples_of_a_large_picture and not slow:
            continue
        try:
            check(*arguments, shim)
        except AssertionError as error:
            yield name, str(error).strip()[:300] or "wrong"
