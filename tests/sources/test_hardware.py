"""Decoding on the GPU, as far as a machine without one goes: the real refusals, one line each, and pictures fetched on demand."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from source_clips import encode, moving_bgr

from streamdet.config import SourceConfig
from streamdet.libcuda import Gpu, NoGpu
from streamdet.sources import hardware
from streamdet.sources.hardware import HardwarePicture, accelerator, planes_of
from streamdet.sources.picture import PictureMaker
from streamdet.sources.video import VideoSource
from streamdet.types import DevicePlanes, Motion

GPU = Gpu(0, "NVIDIA X", (8, 9), (13, 0), "580.1", 8 << 30, 100)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return encode(tmp_path / "clip.mp4", moving_bgr((128, 96), 12))


def count(path: Path, hwaccel: str | None) -> int:
    with VideoSource(str(path), stream="clip", config=SourceConfig(), hwaccel=hwaccel) as source:
        return sum(1 for frame in source if frame.picture.on_device is None)


def test_without_a_gpu_every_frame_comes_from_the_cpu_with_one_line(
    clip: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "probe", lambda index: NoGpu("this machine has no NVIDIA driver"))
    assert count(clip, "cuda:0") == 12
    assert messages(caplog) == [f"{clip} is decoded on the CPU: this machine has no NVIDIA driver"]


def test_where_ffmpeg_cannot_reach_the_gpu_the_cpu_decodes(
    clip: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real FFmpeg, without a driver: it refuses where its own fall-back does not reach (PermissionError)."""
    with pytest.raises(PermissionError):
        av.open(str(clip), hwaccel=av.codec.hwaccel.HWAccel("cuda", allow_software_fallback=True))
    monkeypatch.setattr(hardware, "probe", lambda index: GPU)
    assert count(clip, "cuda:0") == 12
    (said,) = messages(caplog)
    assert "is decoded on the CPU: FFmpeg cannot use the GPU's decoder (Operation not permitted)" in said


def test_nobody_who_did_not_ask_hears_of_it(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert count(clip, None) == 12
    assert messages(caplog) == []
    assert accelerator(None, "clip") is None


# --------------------------------------------------------------------------------------------------- pictures on the GPU


class Surface:
    """What PyAV gives for a picture in the GPU's memory, standing on a real frame that plays the GPU's memory."""

    def __init__(self, host: av.VideoFrame, kept_as: str = "nv12") -> None:
        self.host = host
        self.width, self.height = host.width, host.height
        self.format = SimpleNamespace(name="cuda", is_rgb=False)
        self.sw_format = SimpleNamespace(name=kept_as)
        self.planes = tuple(
            SimpleNamespace(buffer_ptr=plane.buffer_ptr, line_size=plane.line_size) for plane in host.planes[:2]
        )
        self.rotation, self.side_data = 0, ()
        self.colorspace, self.color_range = int(host.colorspace), int(host.color_range)


class Fetching:
    """Plays the reformatter that copies a surface to the host."""

    def __init__(self) -> None:
        self.fetched = 0
        self._real = av.video.reformatter.VideoReformatter()

    def reformat(self, frame: Any, **wanted: Any) -> av.VideoFrame:
        self.fetched += 1
        return self._real.reformat(getattr(frame, "host", frame), **wanted)


def surface() -> tuple[Surface, Any]:
    rng = np.random.default_rng(1)
    host = av.VideoFrame.from_ndarray(rng.integers(16, 235, (72, 64), np.uint8), format="nv12")
    return Surface(host), host


def maker() -> tuple[PictureMaker, Fetching]:
    make, fetching = PictureMaker(), Fetching()
    make._to_host = make._to_bgr = fetching  # type: ignore[assignment]
    return make, fetching


def test_a_surface_becomes_a_picture_whose_pixels_are_fetched_once_and_late() -> None:
    on_gpu, host = surface()
    make, fetching = maker()
    picture = make(on_gpu)  # type: ignore[arg-type]
    assert isinstance(picture, HardwarePicture)
    assert picture.wh == (64, 48)
    assert picture.on_device is not None
    assert picture.on_device.luma == host.planes[0].buffer_ptr
    assert picture.on_device.pitch == (host.planes[0].line_size, host.planes[1].line_size)
    assert picture.on_device.owner is on_gpu  # held as long as the picture
    assert (fetching.fetched, picture.fetched) == (0, False)
    same = PictureMaker()(host)
    np.testing.assert_array_equal(picture.luma, same.luma)
    np.testing.assert_array_equal(picture.chroma[0], same.chroma[0])  # type: ignore[index]
    np.testing.assert_array_equal(picture.chroma[1], same.chroma[1])  # type: ignore[index]
    assert fetching.fetched == 1
    np.testing.assert_array_equal(picture.bgr, same.bgr)
    assert picture.bgr is picture.bgr
    assert fetching.fetched == 2
    Motion(picture.luma)


def test_several_threads_fetch_it_once() -> None:
    make, fetching = maker()
    picture = make(surface()[0])  # type: ignore[arg-type]
    threads = [threading.Thread(target=lambda: picture.luma) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetching.fetched == 1


def test_other_layouts_go_through_the_host() -> None:
    assert planes_of(Surface(surface()[1], "yuv444p")) is None  # type: ignore[arg-type]
    assert planes_of(surface()[1]) is None
    ten = planes_of(Surface(surface()[1], "p010le"))  # type: ignore[arg-type]
    assert isinstance(ten, DevicePlanes)
    assert ten.bits == 10


def test_a_turned_surface_goes_through_the_host() -> None:
    on_gpu, _ = surface()
    on_gpu.rotation = 90
    make, _ = maker()
    make._to_yuv = Fetching()  # type: ignore[assignment]
    make._turn = (90, hardware_turn())
    picture = make(on_gpu)  # type: ignore[arg-type]
    assert picture.on_device is None
    assert picture.wh == (48, 64)


def hardware_turn() -> Any:
    from streamdet.sources.picture import Orientation

    return Orientation(True, False, True)
