"""Decoding on the GPU: pictures that stay there, and come to the host only if somebody asks for their pixels.

PyAV hands out NVDEC's NV12 (or P010) surfaces with their device addresses. Most lines of a run never look at a pixel on the host:
the packer reads the planes where they lie. A luma plane is fetched when the motion model asks for it, BGR when somebody draws.
FFmpeg copies each surface out of the decoder's own pool, so a frame that is held back does not stop it.

Which addresses may be read when: the decoder works on the default stream; who reads them on another one waits for that first
(`streamdet.device.Device.after_default_stream`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import av
from av import Codec, VideoFrame
from av.codec.hwaccel import HWAccel, hwdevices_available

from streamdet.libcuda import NoGpu, device_index, probe
from streamdet.types import U8, DevicePlanes, Matrix, Picture

__all__ = ["HardwarePicture", "accelerator", "planes_of"]

_LOG = logging.getLogger(__name__)
_BITS = {"nv12": 8, "p010le": 10}
# FFmpeg wants the GPU's shared context with flags of its own; if another library made it first, with other flags, it takes
# the one that is current on this thread
_WAYS: tuple[dict[str, str], ...] = ({"primary_ctx": "1"}, {"primary_ctx": "0", "current_ctx": "1"})


def accelerator(device: str | None, name: str) -> HWAccel | None:
    """What makes the GPU `device` decode a stream called `name`; None where the CPU has to, with one line in the log saying why.

    The decoder's context is tried here, before anything is opened: without a driver, and after another library brought the GPU up
    in its own way, FFmpeg fails where its own fall-back to software does not reach.
    """
    if device is None:
        return None
    found = probe(device_index(device))
    if isinstance(found, NoGpu):
        _LOG.warning("%s is decoded on the CPU: %s", name, found.reason)
        return None
    problem = "this PyAV was built without CUDA; install it from PyPI"
    for options in _WAYS if "cuda" in hwdevices_available() else ():
        way = HWAccel("cuda", device=str(found.index), options=dict(options), is_hw_owned=True)
        try:
            way.create(Codec("h264", "r"))
        except (av.FFmpegError, OSError, NotImplementedError) as error:
            problem = f"FFmpeg cannot use the GPU's decoder ({getattr(error, 'strerror', None) or error})"
        else:
            return way
    _LOG.warning("%s is decoded on the CPU: %s", name, problem)
    return None


def planes_of(frame: VideoFrame) -> DevicePlanes | None:
    """Where the planes of `frame` lie on the GPU; None if it is on the host or of another layout than NV12 and P010."""
    kept_as = frame.sw_format.name if frame.format.name == "cuda" and frame.sw_format is not None else ""
    if kept_as not in _BITS:
        return None
    luma, chroma = frame.planes
    return DevicePlanes(
        luma.buffer_ptr, chroma.buffer_ptr, (luma.line_size, chroma.line_size), _BITS[kept_as], owner=frame
    )


class HardwarePicture(Picture):
    """A YUV Picture on the GPU. ``luma`` and ``chroma`` are fetched together, once, when first asked for; ``bgr`` likewise.

    `fetch` gives the planes on the host as 8-bit luma, u, v (any thread may be the one that asks). `sampler` reads single px on
    the GPU; whoever works with the picture there may set it, for the thread that processes it.
    """

    __slots__ = ("_fetch", "_fetched", "_lock", "_wh", "sampler")

    def __init__(
        self,
        wh: tuple[int, int],
        on_device: DevicePlanes,
        *,
        fetch: Callable[[], tuple[U8, tuple[U8, U8]]],
        make_bgr: Callable[[], U8],
        matrix: Matrix,
        full_range: bool,
    ) -> None:
        self._wh = wh
        self._fetch = fetch
        self._fetched: tuple[U8, tuple[U8, U8]] | None = None
        self._lock = threading.Lock()
        self.sampler: Callable[[Any, Any], tuple[Any, Any, Any]] | None = None
        self._bgr: U8 | None = None
        self._make_bgr = make_bgr
        self.on_device = on_device
        self.matrix = matrix
        self.full_range = full_range

    @property
    def wh(self) -> tuple[int, int]:
        return self._wh

    @property
    def luma(self) -> U8:
        return self._planes()[0]

    @property
    def chroma(self) -> tuple[U8, U8]:  # type: ignore[override]
        return self._planes()[1]

    def sampled(self, x: Any, y: Any) -> tuple[Any, Any, Any]:
        if self.sampler is None or self.fetched:
            return super().sampled(x, y)
        return self.sampler(x, y)

    @property
    def fetched(self) -> bool:
        """Whether they have come to the host."""
        return self._fetched is not None

    def _planes(self) -> tuple[U8, tuple[U8, U8]]:
        with self._lock:
            if self._fetched is None:
                self._fetched = self._fetch()
            return self._fetched

    def __repr__(self) -> str:
        return f"HardwarePicture({self._wh[0]}x{self._wh[1]} {self.matrix})"
