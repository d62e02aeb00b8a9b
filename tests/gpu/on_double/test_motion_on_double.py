"""The motion model on the GPU against the one on the CPU: every frame the same answers, the same planes, bit for bit."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Driver
from kernel_battery import SIX
from test_packer_on_double import on_device, same, scene

sys.path.append(str(Path(__file__).resolve().parents[2] / "motion"))
from motion_scene import disc, frame, noisy, texture

from streamdet.config import MotionConfig, TilesConfig
from streamdet.device import Device
from streamdet.inputspec import InputSpec
from streamdet.motion.model import MotionModel
from streamdet.motion.on_device import DeviceMotionModel
from streamdet.sources.hardware import HardwarePicture
from streamdet.tiles import motion_readback
from streamdet.tiles.gpu_pictures import GpuPictures
from streamdet.tiles.motion_cuda import MotionPass
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.pack_cuda import CudaPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.tracking.looks import LOOK, look_at
from streamdet.types import DevicePlane, Frame, Motion, Picture

WH = (320, 240)
Film = Callable[[], Iterator[Frame]]


def movers() -> Iterator[Frame]:
    """Noise, a fast disc, one that stops and is absorbed, one that was there in frame 0 and leaves."""
    picture = texture(WH, low=90, high=150)
    for i in range(70):
        drawn = disc(picture, (15 + 4.5 * i, 60 + 0.5 * i), 3, 240)
        drawn = disc(drawn, (min(20.0 + 4 * i, 120.0), 180), 6, 30)
        if i < 10:
            drawn = disc(drawn, (250, 100), 7, 20)
        yield frame(noisy(drawn, i), i)


def repeats() -> Iterator[Frame]:
    picture = texture(WH, low=70, high=110)
    source = [i - i // 6 for i in range(45)]
    for i, k in enumerate(source):
        yield frame(noisy(disc(picture, (15 + 5.0 * k, 100), 4, 230), k), i)


def exposure() -> Iterator[Frame]:
    picture = texture(WH, low=50, high=110).astype(np.float32)
    for i in range(40):
        gain, offset = (1.0, 0.0) if i < 20 else (1.25, 14.0)
        lit = np.clip(picture * gain + offset + 0.15 * i, 0, 255).astype(np.uint8)
        yield frame(noisy(disc(lit, (15 + 5.0 * i, 100), 4, 240), i), i)


def drifting_light() -> Iterator[Frame]:
    picture = texture(WH).astype(np.float32)
    for i in range(60):
        yield frame(noisy(np.clip(picture * (1 + 0.3 * np.sin(i / 9)), 0, 255).astype(np.uint8), i), i)


def cuts_sizes_epochs() -> Iterator[Frame]:
    for i in range(36):
        part, within = divmod(i, 9)
        wh = (200, 130) if part == 2 else WH
        picture = texture(wh, part + 1, 20, 230)
        yield frame(noisy(disc(picture, (30 + 6.0 * within, 60), 4, 250), i), i, i / 25, epoch=part // 3)


def shifted(big: Any, x: float, y: float) -> Any:
    matrix = np.array([[1, 0, x - 64], [0, 1, y - 64]], float)
    return np.asarray(cv2.warpAffine(big, matrix, (480, 360), flags=cv2.INTER_CUBIC), np.uint8)


def shake_that_ends() -> Iterator[Frame]:
    """Still, shaking, still again for so long that the camera counts as settled, and the light jumps then; shaking once more."""
    rng, big = np.random.default_rng(2), texture((640, 500), 3, 60, 150)
    for i in range(75):
        x, y = rng.uniform(-3, 3, 2) if 8 <= i < 18 or i >= 66 else (0.0, 0.0)
        drawn = shifted(big, x, y)
        if i >= 55:
            drawn = np.clip(drawn * 1.2 + 9, 0, 255).astype(np.uint8)
        yield frame(noisy(disc(drawn, (30.0 + 5 * i, 150.0), 4, 250), i), i)


def pan() -> Iterator[Frame]:
    big = texture((640, 500), 3, 30, 220)
    for i in range(30):
        yield frame(noisy(shifted(big, -3.4 * max(0, i - 8) + 40, 0), i), i)


def everywhere() -> Iterator[Frame]:
    """So much moves that more blocks are active than there is room for; a large mover that is no camera."""
    big, bus = texture((480, 360), 3, 60, 150), texture((200, 200), 9, 0, 255)
    for i in range(24):
        drawn = big.copy()
        drawn[100:300, 5 * i : 5 * i + 200] = bus
        yield frame(noisy(drawn, i), i)


def odd(wh: tuple[int, int]) -> Film:
    def film() -> Iterator[Frame]:
        picture = np.full((wh[1], wh[0]), 90, np.uint8)
        for i in range(12):
            drawn = picture.copy()
            x = (wh[0] * 3 // 4 + 3 * i) % max(wh[0] - 2, 1)
            if i >= 4 and min(wh) > 8:
                drawn[6:9, x : x + 3] = 220
            yield frame(noisy(drawn, i, 1.0), i)

    return film


FILMS: dict[str, Film] = {
    film.__name__: film
    for film in (movers, repeats, exposure, drifting_light, cuts_sizes_epochs, shake_that_ends, pan, everywhere)
} | {f"{w}x{h}": odd((w, h)) for w, h in ((16, 16), (17, 31), (1, 1), (333, 247))}


def plane_of(device: Device, plane: DevicePlane | None, wh: tuple[int, int]) -> Any:
    """(H, W) u8 of what lies on the GPU."""
    if plane is None:
        return None
    import ctypes

    device.synchronize()
    rows = [
        ctypes.string_at(plane.pointer + y * plane.pitch, wh[0]) for y in range(wh[1])
    ]  # the double's is host memory
    return np.frombuffer(b"".join(rows), np.uint8).reshape(wh[1], wh[0])


def compare(device: Device, law: Motion, ours: Motion, wh: tuple[int, int]) -> None:
    assert (ours.state, ours.shift_xy, ours.dt_s, ours.noise) == (law.state, law.shift_xy, law.dt_s, law.noise)
    np.testing.assert_array_equal(ours.regions, law.regions)
    np.testing.assert_array_equal(ours.strength, law.strength)
    if law.state == "repeat":
        return  # nobody looks at its planes
    for name in ("previous", "before_previous", "background"):
        want = getattr(law, name)
        if ours.on_device is None:
            got = getattr(ours, name)
        else:
            got = plane_of(device, getattr(ours.on_device, name), wh)
        assert (got is None) == (want is None), name
        if want is not None:
            np.testing.assert_array_equal(got, want, err_msg=name)


def followed(film: Film, device: Device, config: MotionConfig) -> tuple[list[str], int, int]:
    """States met; regions found; frames whose planes were not on the GPU."""
    by_cpu = MotionModel(config)
    pictures = GpuPictures(device)
    eye = MotionPass(device, pictures)
    by_gpu = DeviceMotionModel(config, eye)
    states, regions, down = [], 0, 0
    for given in film():
        law, ours = by_cpu(given), by_gpu(given)
        compare(device, law, ours, given.wh)
        if ours.on_device is not None and ours.state != "repeat" and (room := eye._room) and room.count <= room.most:
            shown = np.any(eye.active(), axis=0)
            blocks = np.add.reduceat(
                np.add.reduceat(shown, np.arange(0, shown.shape[0], 16), 0), np.arange(0, shown.shape[1], 16), 1
            )
            assert np.count_nonzero(blocks) <= room.count  # nothing of earlier frames is left
        states.append(law.state)
        regions += len(law.regions)
        down += ours.on_device is None and law.state not in ("first", "cut", "repeat")
    eye.close()
    pictures.close()
    return states, regions, down


@pytest.mark.parametrize("name", FILMS)
def test_as_on_the_cpu(name: str, driver: Driver) -> None:
    with Device() as device:
        states, regions, down = followed(FILMS[name], device, MotionConfig(background_s=0.4))
    met = set(states)
    assert {"repeats": "repeat", "exposure": "exposure", "pan": "moving", "cuts_sizes_epochs": "cut"}.get(
        name, "steady"
    ) in met
    if name == "shake_that_ends":
        assert "exposure" in met  # after it has settled, on the GPU again
        assert 20 < down < 50, down
    elif name != "pan":
        assert down == 0
    if name in ("movers", "everywhere", "exposure"):
        assert regions > 30
    gc.collect()


def test_what_little_room_there_is_changes_nothing(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_readback, "_SENT", 4)
    with Device() as device:
        followed(movers, device, MotionConfig())
        monkeypatch.setattr(motion_readback, "_ROOM_SHARE", 10_000)
        followed(everywhere, device, MotionConfig())
    gc.collect()


class Left(Picture):
    """A picture a decoder left on the GPU: whoever asks for its pixels on the host fails."""

    __slots__ = ("_held",)

    def __init__(self, picture: Picture) -> None:
        self._wh, self.windows = picture.wh, None
        self.matrix, self.full_range, self.on_device = picture.matrix, picture.full_range, picture.on_device
        self._held = picture

    @property
    def fetched(self) -> bool:
        return False

    @property
    def luma(self) -> Any:
        raise AssertionError("the luma is asked for on the host")

    @property
    def chroma(self) -> Any:
        raise AssertionError("the chroma is asked for on the host")


def test_pictures_of_the_decoder_never_come_to_the_host(driver: Driver) -> None:
    """Motion and packing of planes on the GPU: two meetings a frame, and the batch is what the CPU packs."""
    spec = InputSpec((64, 64), channels=(*SIX, "y[-2]"), dtype="float16")
    plan = plan_tiles((198, 146), input_wh=(64, 64), config=TilesConfig())
    by_cpu, law = CpuPacker(spec), MotionModel(MotionConfig())
    with Device() as device:
        pictures = GpuPictures(device)
        eye = MotionPass(device, pictures)
        ours, by_gpu = DeviceMotionModel(MotionConfig(), eye), CudaPacker(spec, device, pictures)
        waits = []
        for index in range(14):
            picture = on_device(device, scene(index, form="nv12"))
            host, left = frame(picture.luma, index), Frame("s", index, index / 30, Left(picture), 0.0)
            host = Frame(
                "s",
                index,
                index / 30,
                Picture(picture.luma, picture.chroma, make_bgr=lambda: None, matrix="bt709"),
                0.0,
            )  # type: ignore[arg-type,return-value]
            before = driver.calls("cuStreamSynchronize"), driver.calls("cuMemcpyDtoHAsync_v2")
            motion = ours(left)
            batch = by_gpu(left, motion, plan)
            waits.append(
                (driver.calls("cuStreamSynchronize") - before[0], driver.calls("cuMemcpyDtoHAsync_v2") - before[1])
            )
            by_law = law(host)
            compare(device, by_law, motion, left.wh)
            same(device.read(batch.data), by_cpu(host, by_law, plan).data, spec)
        assert set(waits[1:]) == {(1, 1)}
        assert ours(Frame("s", 14, 0.5, left.picture, 0.0)).state == "repeat"
        by_gpu.close()
        eye.close()
    gc.collect()


def test_looks_are_sampled_where_the_picture_lies(driver: Driver) -> None:
    """Clothes and paint of larger things: a few px, not the picture."""
    box = np.array([[10, 12, 60, 90], [-5, 100, 44, 160], [150, 20, 197.5, 145.9]], np.float64)
    with Device() as device:
        picture = on_device(device, scene(3, form="nv12"))
        assert picture.chroma is not None
        left = HardwarePicture(
            picture.wh,
            picture.on_device,
            fetch=no_planes,
            make_bgr=no_planes,
            matrix="bt709",
            full_range=False,  # type: ignore[arg-type]
        )
        pictures = GpuPictures(device)
        with pictures.staging:
            pictures.plane(left, "y")
        np.testing.assert_array_equal(look_at(left, box), look_at(picture, box))
        assert look_at(left, box[:0]).shape == (0, LOOK)
        assert driver.calls("cuMemcpyDtoHAsync_v2") == 1
        assert not left.fetched
        pictures.close()
    gc.collect()


def no_planes() -> Any:
    raise AssertionError("the planes are fetched")


def test_ten_bits_are_within_a_level(driver: Driver) -> None:
    """P010: the luma is rounded to 8 bits on the GPU."""
    with Device() as device:
        pictures = GpuPictures(device)
        ours, law = DeviceMotionModel(MotionConfig(), MotionPass(device, pictures)), MotionModel(MotionConfig())
        for index in range(10):
            luma = scene(index, form="nv12").luma
            fine = (
                luma.astype(np.uint16) * 256
                + np.random.default_rng(index).integers(-2, 2, luma.shape).astype(np.uint16) * 64
            )
            kept = device.empty((luma.shape[0], 200), np.uint16)
            raw = np.zeros(kept.shape, np.uint16)
            raw[:, : luma.shape[1]] = fine
            device.upload(raw, kept)
            device.synchronize()
            left = Left(on_device(device, scene(index, form="nv12")))
            left.on_device = type(left.on_device)(kept.pointer, kept.pointer, (400, 400), bits=10, owner=kept)  # type: ignore[misc]
            motion = ours(Frame("s", index, index / 30, left, 0.0))
            rounded = np.minimum((fine.astype(np.int64) + 128) >> 8, 255).astype(np.uint8)
            want = law(frame(rounded, index))
            assert motion.state == want.state
            np.testing.assert_array_equal(motion.regions, want.regions)
            if motion.on_device is not None and want.previous is not None:
                assert motion.on_device.previous is not None
                assert motion.on_device.previous.wide
                np.testing.assert_array_equal(plane_of(device, motion.on_device.background, left.wh), want.background)
    gc.collect()


def test_memory_stays_flat_and_goes(driver: Driver) -> None:
    with Device() as device:
        pictures = GpuPictures(device)
        eye, held = MotionPass(device, pictures), []
        model = DeviceMotionModel(MotionConfig(), eye)
        for _ in range(3):
            for given in exposure():
                model(given)
            device.synchronize()
            held.append((device.allocated_bytes, driver.live()["pinned"]))
        assert held[1] == held[2], held
        eye.close()
        pictures.close()
        device.trim()
        assert device.allocated_bytes == 0
        assert "pinned" not in driver.live()
    gc.collect()
