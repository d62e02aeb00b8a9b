"""The pack kernel against the definition: the float64 reference and the packer on the CPU, on guarded memory."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_battery import LEVELS, SIX, Case, cases, picture_of, plane, run_case, tiles_of, worst
from shim import OnHost, Shim, pack_on_host

from streamdet.errors import ModelError
from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.program import JOB, PLANE, ROW, TILE, Source, compile_rows, is_same_size, tile_rows
from streamdet.types import Frame, Motion, Picture


@pytest.mark.parametrize("case", cases(), ids=str)
def test_agrees_with_the_float64_reference(case: Case, tile_kernel: Shim) -> None:
    assert worst(*run_case(tile_kernel, case)) <= LEVELS


def test_both_kernels_give_the_same_where_both_may_run(tile_kernel: Shim) -> None:
    for dtype in ("float32", "float16", "uint8"):
        spec = {"channels": ("r", "g", "b") if dtype == "uint8" else (*SIX, "y"), "dtype": dtype}
        for kind, bits, layout in itertools.product(("nv12", "i420"), (8, 10), ("nchw", "nhwc")):
            case = Case(
                f"both {kind} {bits} {dtype}",
                [[20, 10, 84, 58], [34, 26, 98, 74]],
                (64, 48),
                kind=kind,
                bits=bits,
                spec={**spec, "layout": layout},
            )
            fast, _, _ = run_case(tile_kernel, case, kernel="_same")
            general, _, _ = run_case(tile_kernel, case, kernel="")
            np.testing.assert_array_equal(fast, general)


def test_the_fast_kernel_is_chosen_only_where_it_may_run() -> None:
    side = np.array([(0, 64, 1, 0, 0), (0, 64, 2, 0, 1)], PLANE)
    for box, input_wh, good in (
        ([20, 10, 84, 58], (64, 48), True),
        ([21, 10, 85, 58], (64, 48), False),  # odd left edge: chroma lies elsewhere
        ([20, 11, 84, 59], (64, 48), True),
        ([20, 10, 80, 58], (60, 48), False),  # the last run of a row is not whole
        ([20, 10, 84, 58], (128, 96), False),  # scaled
        ([20, 10, 84, 58], (64, 64), True),  # letterboxed below
    ):
        tiles = tile_rows(tiles_of((98, 74), [box], input_wh))
        assert is_same_size(tiles, side) == good, box
    tiles = tile_rows(tiles_of((98, 74), [[20, 10, 84, 58]], (64, 48)))
    p010 = np.array([(0, 256, 2, 1, 0), (0, 256, 4, 1, 1), (2, 256, 4, 1, 1)], PLANE)
    i420 = np.array([(0, 128, 1, 0, 0), (0, 64, 1, 0, 1), (0, 64, 1, 0, 1)], PLANE)
    assert is_same_size(tiles, p010)
    assert is_same_size(tiles, np.concatenate([p010, i420[:1]]))  # 10 bits beside a background of 8
    assert is_same_size(tiles, i420)
    bgr = np.array([(0, 64, 3, 0, 0)], PLANE)
    assert not is_same_size(tile_rows(tiles_of((98, 74), [[20, 10, 84, 58]], (64, 48))), bgr)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", ["nv12", "i420", "bgr"])
def test_agrees_with_the_packer_on_the_cpu(dtype: Any, layout: Any, kind: str, tile_kernel: Shim) -> None:
    """The law itself: CpuPacker, within two float32 roundings (uint8: within one level, nearly all equal)."""
    rng = np.random.default_rng(5)
    case = Case("cpu", [], (64, 48), kind=kind)
    seen = picture_of(rng, case)
    planes = [plane(rng, case.frame_wh) for _ in range(3)]
    if kind == "bgr":
        picture = Picture(seen.luma, bgr=seen.bgr)
    else:
        picture = Picture(seen.luma, seen.chroma, make_bgr=lambda: np.zeros((0, 0, 3), np.uint8), matrix="bt709")
    channels = ("b", "g", "r", "y") if dtype == "uint8" else (*SIX, "y")
    spec = InputSpec((64, 48), channels=channels, dtype=dtype, layout=layout)
    boxes = [[20, 10, 84, 58], [21, 11, 85, 59], [0, 0, 98, 74], [10, 20, 30, 30], [0, 0, 40, 74]]
    tiles = tiles_of(case.frame_wh, boxes, (64, 48))
    want = CpuPacker(spec)(Frame("s", 0, 0.0, picture, 0.0), Motion(picture.luma, *planes, state="steady"), tiles).data
    on_host = OnHost(pair=kind == "nv12")
    on_host.picture(picture)
    for name, samples in zip(("previous", "before_previous", "background"), planes):
        on_host.put((name, 0), samples)  # type: ignore[arg-type]
    source = Source(kind != "bgr", picture.matrix, picture.full_range, kind == "nv12")
    got = pack_on_host(tile_kernel, spec, on_host, {0: source}, tiles)
    assert got.dtype == want.dtype
    if dtype == "uint8":
        assert np.abs(got.astype(int) - want).max() <= 1
        assert (got == want).mean() > 0.995
        return
    unit = np.array([1 / abs(spec.affine(index)[0]) for index in range(len(channels))])
    unit = unit.reshape((1, 1, 1, -1) if layout == "nhwc" else (1, -1, 1, 1))
    rounding = np.abs(want.astype(np.float64)) * 2**-10 + 2**-13 if dtype == "float16" else 0.0
    assert ((np.abs(got.astype(np.float64) - want) - rounding) * unit).max() <= 2 * LEVELS


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_place_scale_and_format(data: st.DataObject, tile_kernel: Shim) -> None:
    wh = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 40)), "frame")
    boxes = []
    for _ in range(data.draw(st.integers(1, 3), "tiles")):
        x1, y1 = data.draw(st.integers(0, wh[0] - 1)), data.draw(st.integers(0, wh[1] - 1))
        boxes.append([x1, y1, data.draw(st.integers(x1 + 1, wh[0])), data.draw(st.integers(y1 + 1, wh[1]))])
    kind, bits = data.draw(st.sampled_from([("nv12", 8), ("i420", 8), ("nv12", 10), ("bgr", 8)]), "format")
    dtype = data.draw(st.sampled_from(["float32", "float16"]), "dtype")
    case = Case(
        "any",
        boxes,
        data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)), "input"),
        frame_wh=wh,
        kind=kind,
        bits=bits,
        matrix=data.draw(st.sampled_from(["bt601", "bt709", "bt2020"]), "matrix"),
        full_range=data.draw(st.booleans(), "full range"),
        stretch=data.draw(st.booleans(), "stretch"),
        align=data.draw(st.sampled_from([1, 2, 4, 8, 16]), "align") * (2 if bits == 10 else 1),
        pitch_extra=data.draw(st.integers(0, 9), "pitch") * 2,
        spec={"channels": SIX, "dtype": dtype, "layout": data.draw(st.sampled_from(["nchw", "nhwc"]), "layout")},
    )
    assert worst(*run_case(tile_kernel, case, data.draw(st.integers(0, 99), "seed"))) <= LEVELS


def test_picked_tiles_only(tile_kernel: Shim) -> None:
    """With a list on the device, output tile i shows tile picked[i]; beyond the count nothing is written."""
    rng = np.random.default_rng(9)
    case = Case("picked", [], (32, 24))
    picture, on_host = picture_of(rng, case), OnHost()
    on_host.picture(picture)
    spec, source = InputSpec((32, 24)), {0: Source(True, "bt709", False, True)}
    tiles = tiles_of(case.frame_wh, [[x, 8, x + 32, 32] for x in range(0, 64, 8)], (32, 24))
    every = pack_on_host(tile_kernel, spec, on_host, source, tiles)
    rows, refs = compile_rows(spec, lambda offset: source[offset], lambda ref: True)
    table, tile_table = np.array([on_host.fields[ref] for ref in refs], PLANE), tile_rows(tiles)
    picked, count, out = np.array([5, 1, 6], np.int32), np.array([2], np.int32), np.full(every.shape, 7, np.float32)
    job = np.zeros((), JOB)
    job["out"], job["tiles"] = out.ctypes.data, tile_table.ctypes.data
    job["picked"], job["count"] = picked.ctypes.data, count.ctypes.data
    job["width"], job["height"], job["channels"], job["rows"] = 32, 24, 3, len(rows)
    job["plane"][: len(table)], job["row"][: len(rows)] = table, rows
    tile_kernel.launch("pack_f32", (1, len(tiles), 1), 256, job)
    np.testing.assert_array_equal(out[0], every[5])
    np.testing.assert_array_equal(out[1], every[1])
    assert (out[2:] == 7).all()


def test_layouts_are_those_of_the_source() -> None:
    """The sizes the source asserts of its structs; nvcc and g++ check the same."""
    from shim import PACKAGE

    text = (PACKAGE / "tiles/kernel.cu").read_text()
    assert (
        f"sizeof(Plane) == {PLANE.itemsize} && sizeof(Tile) == {TILE.itemsize} && sizeof(Row) == {ROW.itemsize}" in text
    )
    assert JOB.itemsize == 56 + 64 * PLANE.itemsize + 64 * ROW.itemsize
    assert f"sizeof(Job) == 56 + MOST_PLANES * {PLANE.itemsize} + MOST_ROWS * {ROW.itemsize}" in text


def test_more_channels_than_the_table_holds_are_refused() -> None:
    spec = InputSpec(channels=tuple(f"y[{-i}]" for i in range(65)))
    with pytest.raises(ModelError, match="65 channels from 65 planes is more than the GPU packer takes"):
        compile_rows(spec, lambda offset: Source(True), lambda ref: True)
