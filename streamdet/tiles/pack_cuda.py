"""The packer on the GPU: planes go up once (or lie there already), one launch makes the whole batch, nothing comes back.

`pack_cpu` defines the result, `kernel.cu` computes it, `program` tells it what to do. Each picture goes up once
(`gpu_pictures`): the luma of the frame before is still there when its difference is wanted. Planes of a motion model on the GPU
are read where they lie; what only one on the host knows (background, planes aligned to a moving camera) goes up as far as the
chosen tiles reach.

Each frame: :meth:`CudaPacker.prepare` (copies, not to be captured), then :meth:`CudaPacker.launch` (the kernel; may be part of
a graph, which stays good as long as ``graph_key`` is the same), then :meth:`CudaPacker.launched`. Calling the packer does all
three.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.device import Device, DeviceArray, Event, Kernel
from streamdet.inputspec import InputSpec
from streamdet.tiles.gpu_pictures import GpuPictures, PlaneFields
from streamdet.tiles.program import JOB, PLANE, TILE, PlaneRef, Source, compile_rows, is_same_size, tile_rows
from streamdet.types import DevicePlane, Frame, Motion, MotionPlanes, Picture, TileBatch, TilePlan

__all__ = ["CudaPacker"]

_FATBIN = "tiles/kernel"
_BLOCK = 256
_RUN = 8
_DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_SUFFIX = {"float32": "f32", "float16": "f16", "uint8": "u8"}
_WHO = "pack"
_MOTION_PLANES = ("previous", "before_previous", "background")


class CudaPacker:
    """A Packer. ``data`` of the batch is a DeviceArray that is overwritten by the next call, in the order of the device's stream.

    As with `CpuPacker`, call it for every frame that is not a repeat; it may be called several times for one frame. Everything
    it holds on the GPU is freed by :meth:`close`, or with its Device.
    """

    collages = False

    def __init__(self, spec: InputSpec, device: Device, pictures: GpuPictures | None = None) -> None:
        self.spec = spec
        self._device = device
        self._on_gpu = pictures or GpuPictures(device)
        self._pictures: deque[Picture] = deque(maxlen=max(spec.history + 1, 2))  # newest last
        self._seen: tuple[str, int, int, tuple[int, int]] | None = None
        self._motion: tuple[Motion, dict[str, tuple[DeviceArray, tuple[int, int]]]] | None = None
        self._held: deque[tuple[Event, Any]] = deque()  # pictures of the decoder that the GPU may still read
        self._job: DeviceArray | None = None
        self._batch: DeviceArray | None = None
        self._planes: MotionPlanes | None = None  # of the frame that is packed
        self._kernel: Kernel | None = None
        self._out = 0
        self._grid = (0, 0)

    @property
    def graph_key(self) -> tuple[Any, ...]:
        """Changes when a captured :meth:`launch` would do something else than a new one: kernel, addresses, sizes."""
        name = self._kernel.name if self._kernel else ""
        return name, self._grid, self._job.pointer if self._job else 0, self._out

    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        batch = self.prepare(frame, motion, tiles)
        self.launch()
        self.launched()
        return batch

    def prepare(
        self, frame: Frame, motion: Motion, tiles: TilePlan, *, room: int = 0, into: DeviceArray | None = None
    ) -> TileBatch:
        """Bring up all that :meth:`launch` needs, and say where the result will lie.

        `room`: the batch may grow to so many tiles without moving (graphs want addresses that stay). `into`: write there
        instead of to a buffer of our own (rows of a batch that several streams share).
        """
        self._remember(frame, motion)
        shape = self.spec.shape(len(tiles), tiles.input_wh)
        if into is not None and (into.shape != shape or into.dtype != _DTYPES[self.spec.dtype]):
            raise ValueError(f"{into} is not what {len(tiles)} tiles need: {shape} {self.spec.dtype}")
        data = into or self._room(max(len(tiles), room), shape)[: len(tiles)]
        self._out = data.pointer
        self._grid = (-(-(-(-tiles.input_wh[0] // _RUN) * tiles.input_wh[1]) // _BLOCK), len(tiles))
        if len(tiles):
            with self._on_gpu.staging:
                self._write_job(data, motion, tiles)
        return TileBatch(data, tiles, frame, motion)

    def launch(self) -> None:
        """Put the kernel on the stream."""
        if self._grid[1]:
            assert self._job is not None
            assert self._kernel is not None
            self._kernel(self._grid, (_BLOCK, 1, 1), self._job)

    def launched(self) -> None:
        """After the launch, captured or not: keep what the decoder lent until the GPU has read it."""
        while self._held and self._held[0][0].done:
            self._held.popleft()
        lent = [picture.on_device for picture in self._pictures if picture.on_device is not None]
        if lent:
            self._held.append((self._device.mark(), (lent, self._planes)))

    def close(self) -> None:
        """Give every buffer back to the device's pool."""
        self._forget()
        for array in (self._job, self._batch):
            if array is not None:
                self._device.release(array)
        self._job = self._batch = self._planes = None
        if self._held:
            self._device.synchronize()
            self._held.clear()
        self._on_gpu.close()

    # ------------------------------------------------------------------------------------------------------- the past

    def _remember(self, frame: Frame, motion: Motion) -> None:
        now = frame.stream, frame.epoch, frame.index, frame.wh
        if frame.still or self._seen is None or (now[:2], now[3]) != (self._seen[:2], self._seen[3]):
            self._forget()
        elif now == self._seen or motion.state == "repeat":
            return
        self._pictures.append(frame.picture)
        self._seen = now
        self._on_gpu.keep(_WHO, self._pictures)

    def _forget(self) -> None:
        self._pictures.clear()
        self._on_gpu.keep(_WHO, ())
        self._drop_motion()

    def _drop_motion(self) -> None:
        if self._motion is not None:
            for array, _ in self._motion[1].values():
                self._device.release(array)
            self._motion = None

    def _picture(self, offset: int) -> Picture:
        oldest = max(0, len(self._pictures) - 1 - self.spec.history)
        return self._pictures[max(oldest, len(self._pictures) - 1 + offset)]

    # -------------------------------------------------------------------------------------------------------- the job

    def _write_job(self, data: DeviceArray, motion: Motion, tiles: TilePlan) -> None:
        if self._motion is None or self._motion[0] is not motion:
            self._drop_motion()
            self._motion = motion, {}
        self._planes = motion.on_device
        rows, refs = compile_rows(self.spec, self._source, lambda ref: _has(motion, ref[0]))
        reach = int(tiles.xyxy[:, 1].min()), int(tiles.xyxy[:, 3].max())
        planes = np.array([self._plane(ref, motion, reach) for ref in refs], PLANE)
        tile_table = tile_rows(tiles)
        same = "_same" if is_same_size(tile_table, planes) else ""
        name = f"pack_{_SUFFIX[self.spec.dtype]}{same}"
        if self._kernel is None or self._kernel.name != name:
            self._kernel = self._device.kernel(_FATBIN, name)
        size = JOB.itemsize + len(tiles) * TILE.itemsize
        if self._job is None or self._job.nbytes < size:
            if self._job is not None:
                self._device.release(self._job)
            self._job = self._device.empty((max(size, JOB.itemsize + 256 * TILE.itemsize),), np.uint8)
        raw = self._on_gpu.staging.take(size)
        job = raw[: JOB.itemsize].view(JOB)[0]
        job["out"], job["tiles"], job["picked"], job["count"] = data.pointer, self._job.pointer + JOB.itemsize, 0, 0
        job["width"], job["height"] = tiles.input_wh
        job["channels"], job["rows"], job["nhwc"] = len(self.spec.channels), len(rows), self.spec.layout == "nhwc"
        job["plane"][: len(planes)], job["row"][: len(rows)] = planes, rows
        raw[JOB.itemsize :].view(TILE)[:] = tile_table
        self._device.upload(raw, self._job[:size])

    def _source(self, offset: int) -> Source:
        picture = self._picture(offset)
        return Source(picture.is_yuv, picture.matrix, picture.full_range, self._on_gpu.is_pair(picture))

    def _plane(self, ref: PlaneRef, motion: Motion, reach: tuple[int, int]) -> PlaneFields:
        what, offset = ref
        if what not in _MOTION_PLANES:
            return self._on_gpu.plane(self._picture(offset), what)
        if motion.on_device is not None:
            plane: DevicePlane = getattr(motion.on_device, what)
            return plane.pointer, plane.pitch, 2 if plane.wide else 1, int(plane.wide), 0
        host = _host_plane(motion, what)
        assert host is not None
        for picture in self._pictures:
            if (
                picture.fetched and picture.luma is host
            ):  # an earlier picture as it was decoded: it is up there, or will be wanted again
                return self._on_gpu.plane(picture, "y")
        assert self._motion is not None
        pitch = -(-host.shape[1] // 16) * 16
        sent = self._motion[1].get(what)
        if sent is None:
            sent = self._device.empty((host.shape[0], pitch), np.uint8), (0, 0)
        array, done = sent
        if not (done[0] <= reach[0] and reach[1] <= done[1]):
            self._on_gpu.staging.rows(host, array, reach)
            done = reach
        self._motion[1][what] = array, done
        return array.pointer, pitch, 1, 0, 0

    def _room(self, count: int, shape: tuple[int, ...]) -> DeviceArray:
        if self._batch is None or self._batch.shape[1:] != shape[1:] or len(self._batch) < count:
            if self._batch is not None:
                self._device.release(self._batch)
            self._batch = self._device.empty((max(count, 1), *shape[1:]), _DTYPES[self.spec.dtype])
        return self._batch


def _has(motion: Motion, what: str) -> bool:
    if what == "y":
        return True
    return (_host_plane(motion, what) if motion.on_device is None else getattr(motion.on_device, what)) is not None


def _host_plane(motion: Motion, what: str) -> NDArray[np.uint8] | None:
    planes = {"previous": motion.previous, "before_previous": motion.before_previous, "background": motion.background}
    return planes[what]
