"""CudaPacker over the real pycuda and the host copy of its kernel: what it makes is what CpuPacker makes, frame after frame."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from conftest import Driver
from kernel_battery import SIX, tiles_of

from streamdet.config import MotionConfig, TilesConfig
from streamdet.device import Device
from streamdet.inputspec import InputSpec
from streamdet.motion.model import MotionModel
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.pack_cuda import CudaPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.types import DevicePlanes, Frame, Motion, Picture, TilePlan

WH = (198, 146)


def no_bgr() -> Any:
    raise AssertionError("the packer must not make the whole frame's BGR")


def scene(index: int, *, form: str = "i420", wh: tuple[int, int] = WH, seed: int = 3) -> Picture:
    """A still scene with noise, over which a bright square flies."""
    rng = np.random.default_rng(seed)
    width, height = wh
    base = rng.integers(40, 200, (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    luma = (base + np.random.default_rng([seed, index]).integers(-2, 3, base.shape)).astype(np.uint8)
    luma[40 + index : 46 + index, 20 + 5 * index : 26 + 5 * index] = 250
    half = (height + 1) // 2, (width + 1) // 2
    if form == "bgr":
        return Picture(luma, bgr=np.stack([luma, 255 - luma, luma // 2], 2))
    if form == "nv12":
        both = rng.integers(0, 256, (half[0], half[1] * 2)).astype(np.uint8)
        chroma = both[:, 0::2], both[:, 1::2]
    else:
        chroma = tuple(rng.integers(0, 256, half).astype(np.uint8) for _ in range(2))  # type: ignore[assignment]
    if form == "turned":
        turned = scene(index, wh=(wh[1], wh[0]), seed=seed)
        assert turned.chroma is not None
        luma, chroma = np.rot90(turned.luma), (np.rot90(turned.chroma[0]), np.rot90(turned.chroma[1]))
    return Picture(luma, chroma, make_bgr=no_bgr, matrix="bt709")


def frame_of(picture: Picture, index: int, **kw: Any) -> Frame:
    return Frame("s", index, index / 25, picture, 0.0, **kw)


def same(got: Any, want: Any, spec: InputSpec) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    error = np.abs(got.astype(np.float64) - want.astype(np.float64))
    if spec.dtype == "uint8":
        assert error.max() <= 1
        return
    unit = np.array([1 / abs(spec.affine(index)[0]) for index in range(len(spec.channels))])
    unit = unit.reshape((1, 1, 1, -1) if spec.layout == "nhwc" else (1, -1, 1, 1))
    rounding = np.abs(want.astype(np.float64)) * 2**-10 + 2**-12 if spec.dtype == "float16" else 0.0
    assert ((error - rounding) * unit).max() <= 0.04


@pytest.mark.parametrize("form", ["i420", "nv12", "bgr", "turned"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_film_with_the_motion_model(form: str, dtype: Any, driver: Driver) -> None:
    spec = InputSpec((64, 64), channels=(*SIX, "y[-2]"), dtype=dtype)
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())
    by_cpu, motion_model = CpuPacker(spec), MotionModel(MotionConfig())
    with Device() as device:
        by_gpu = CudaPacker(spec, device)
        for index in range(8):
            frame = frame_of(scene(index, form=form), index)
            motion = motion_model(frame)
            tiles = plan[np.arange(len(plan)) % 3 == index % 3] if index % 4 else plan
            want, got = by_cpu(frame, motion, tiles), by_gpu(frame, motion, tiles)
            assert got.tiles is tiles
            same(device.read(got.data), want.data, spec)
        by_gpu.close()
    gc.collect()


def test_each_picture_goes_up_once(driver: Driver) -> None:
    spec = InputSpec((64, 64), channels=("r", "g", "b", "difference"))
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())
    with Device() as device:
        packer = CudaPacker(spec, device)
        copies = []
        previous = None
        for index in range(5):
            picture = scene(index)
            before = driver.calls("cuMemcpyHtoDAsync_v2")
            motion = Motion(picture.luma, previous, state="steady")
            for part in (plan[:2], plan[2:]):  # a frame of many tiles is packed in parts
                packer(frame_of(picture, index), motion, part)
            copies.append(driver.calls("cuMemcpyHtoDAsync_v2") - before)
            previous = picture.luma
        assert copies == [3] * 5  # the picture, and two jobs; the frame before is still there
        device.synchronize()
        assert driver.launches == 10


def test_memory_stays_flat(driver: Driver) -> None:
    spec = InputSpec((64, 64), channels=SIX)
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())
    motion_model = MotionModel(MotionConfig())
    with Device() as device:
        packer, held = CudaPacker(spec, device), []
        for index in range(60):
            frame = frame_of(scene(index % 20), index)
            packer(frame, motion_model(frame), plan)
            held.append((device.allocated_bytes, driver.live()["pinned"], driver.live()["events"]))
        assert len(set(held[12:])) == 1, held


def test_a_graph_packs_the_next_frames_too(driver: Driver) -> None:
    spec = InputSpec((64, 64), channels=("r", "g", "b", "difference"), dtype="float16")
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())
    by_cpu = CpuPacker(spec)
    with Device() as device:
        packer, graphs, previous = CudaPacker(spec, device), {}, None
        for index in range(10):
            picture = scene(index)
            motion = Motion(picture.luma, previous, state="steady" if index else "first")
            tiles = plan if index % 3 else plan[:3]
            batch = packer.prepare(frame_of(picture, index), motion, tiles, room=len(plan))
            if packer.graph_key not in graphs:
                with device.capture() as graph:
                    packer.launch()
                graphs[packer.graph_key] = graph
            graphs[packer.graph_key].launch()
            packer.launched()
            same(device.read(batch.data), by_cpu(frame_of(picture, index), motion, tiles).data, spec)
            previous = picture.luma
        assert len(graphs) == 2  # one for each batch size
    gc.collect()


def on_device(device: Device, picture: Picture, owner: Any = None) -> Picture:
    """The same NV12 picture as if a decoder had left it on the GPU."""
    assert picture.chroma is not None
    height, width = picture.luma.shape
    pitch = 256
    both = np.zeros((len(picture.chroma[0]), pitch), np.uint8)
    luma = np.zeros((height, pitch), np.uint8)
    luma[:, :width] = picture.luma
    both[:, 0 : 2 * picture.chroma[0].shape[1] : 2], both[:, 1 : 2 * picture.chroma[1].shape[1] : 2] = picture.chroma
    arrays = device.empty(luma.shape, np.uint8), device.empty(both.shape, np.uint8)
    for host, array in zip((luma, both), arrays):
        device.upload(host, array)
        device.synchronize()
    planes = DevicePlanes(arrays[0].pointer, arrays[1].pointer, (pitch, pitch), owner=owner)
    return Picture(picture.luma, picture.chroma, make_bgr=no_bgr, matrix="bt709", on_device=planes)


class Surface:
    """Stands for the decoder's frame: counts how many are alive."""

    alive = 0

    def __init__(self) -> None:
        Surface.alive += 1

    def __del__(self) -> None:
        Surface.alive -= 1


def test_pictures_that_lie_on_the_gpu_are_used_there_and_held_until_then(driver: Driver) -> None:
    spec = InputSpec((64, 64), channels=("r", "g", "b", "difference"))
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())
    by_cpu = CpuPacker(spec)
    with Device() as device:
        packer, previous = CudaPacker(spec, device), None
        for index in range(6):
            picture = on_device(device, scene(index, form="nv12"), Surface())
            motion = Motion(picture.luma, previous, state="steady" if index else "first")
            before = driver.calls("cuMemcpyHtoDAsync_v2")
            batch = packer(frame_of(picture, index), motion, plan)
            assert driver.calls("cuMemcpyHtoDAsync_v2") - before == 1  # the job
            want = by_cpu(frame_of(picture, index), motion, plan).data
            previous = picture.luma
            if index == 2:
                assert 2 <= Surface.alive <= 3
            same(device.read(batch.data), want, spec)
            del picture
        assert Surface.alive <= 3
        packer.close()
        by_cpu = None  # type: ignore[assignment]
        del batch, motion, want
        gc.collect()
        assert Surface.alive == 0


def test_a_new_epoch_a_new_size_and_a_still_forget_the_past(driver: Driver) -> None:
    spec = InputSpec((32, 32), channels=("y[-1]", "y"))
    by_cpu = CpuPacker(spec)
    with Device() as device:
        by_gpu = CudaPacker(spec, device)
        for index, (wh, epoch, still) in enumerate(
            [(WH, 0, False), (WH, 0, False), (WH, 1, False), ((98, 74), 1, False), ((98, 74), 1, False), (WH, 1, True)]
        ):
            picture = scene(index, wh=wh)
            frame = frame_of(picture, index, epoch=epoch, still=still)
            tiles = tiles_of(wh, [[0, 0, *wh]], (32, 32))
            motion = Motion(picture.luma)
            same(device.read(by_gpu(frame, motion, tiles).data), by_cpu(frame, motion, tiles).data, spec)


def test_rows_of_a_batch_that_streams_share(driver: Driver) -> None:
    spec = InputSpec((64, 64))
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())[:4]
    with Device() as device:
        shared = device.empty(spec.shape(7, (64, 64)), np.float32)
        for first, count, seed in ((0, 4, 3), (4, 3, 8)):
            packer, picture = CudaPacker(spec, device), scene(0, seed=seed)
            tiles: TilePlan = plan[:count]
            frame, motion = frame_of(picture, 0), Motion(picture.luma)
            packer.prepare(frame, motion, tiles, into=shared[first : first + count])
            packer.launch()
            packer.launched()
            same(device.read(shared)[first : first + count], CpuPacker(spec)(frame, motion, tiles).data, spec)
        with pytest.raises(ValueError, match="is not what 4 tiles need"):
            packer.prepare(frame, motion, plan, into=shared)


def test_no_tiles_cost_nothing(driver: Driver) -> None:
    spec = InputSpec((64, 64))
    plan = plan_tiles(WH, input_wh=(64, 64), config=TilesConfig())
    with Device() as device:
        picture = scene(0)
        batch = CudaPacker(spec, device)(frame_of(picture, 0), Motion(picture.luma), plan[:0])
        assert batch.data.shape == (0, 3, 64, 64)
        device.synchronize()
        assert driver.launches == 0
        assert driver.calls("cuMemcpyHtoDAsync_v2") == 0
