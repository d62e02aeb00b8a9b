"""The motion pass of one stream on the GPU: `streamdet.protocols.DeviceScene` by the kernels of motion.cu.

Planes are read where they lie: a decoder's 8-bit luma, the luma a host picture brought up, or one of our own (10 bits made 8,
another light, another view). A frame costs one small upload, five launches, one download and one wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.device import Device, DeviceArray
from streamdet.protocols import Seen
from streamdet.tiles.gpu_pictures import GpuPictures
from streamdet.tiles.motion_layout import LEVELS, MOTION
from streamdet.tiles.motion_readback import Readback
from streamdet.tiles.staging import Staging
from streamdet.types import I16, U8, Bool, DevicePlane, MotionPlanes, Picture

__all__ = ["MotionPass"]

_FATBIN = "tiles/motion"
_STRIPE_PX = 64
_THREADS = 128
_HEAL_BLOCKS = 256
_IDENTITY: U8 = np.arange(256, dtype=np.uint8)
_WHO = "motion"


@dataclass(frozen=True, slots=True)
class _Luma:
    """A luma as the pass reads it: 8 bits, rows `pitch` apart. `picture`: whose levels these are; `own`: ours to release."""

    picture: Picture | None
    pointer: int
    pitch: int
    own: DeviceArray | None = None
    shown: DevicePlane | None = None  # for the packer, where that is a better one (10 bits)


class MotionPass:
    """Made for one stream; `pictures` is shared with its packer. All it holds goes with :meth:`close`, or with the Device."""

    def __init__(self, device: Device, pictures: GpuPictures) -> None:
        self._device = device
        self._pictures = pictures
        self._staging = Staging(device)
        self._wh = (0, 0)
        self._grid = (0, 1)
        self._now: _Luma | None = None
        self._previous: _Luma | None = None
        self._before: _Luma | None = None
        self._leaving: _Luma | None = None  # handed out with the last planes, and still to be read by the packer
        self._limit: U8 | None = None
        self._background: DeviceArray | None = None  # (H, pitch)
        self._job: DeviceArray | None = None
        self._room: Readback | None = None

    # ------------------------------------------------------------------------------------------------------ the scene

    def begin(self, picture: Picture, grid: tuple[int, int]) -> I16:
        self._fit(picture.wh, grid)
        self._drop_all()
        with self._pictures.staging:
            self._now = self._luma_of(picture)
        assert self._background is not None
        pitch = self._background.shape[1]
        self._map(self._now.pointer, self._now.pitch, self._background.pointer, pitch, _IDENTITY)
        seen = self._look(self._still(), frozen=None, heal=None, limit=None)
        self.remember()
        return seen.luma

    def see(
        self, picture: Picture, *, levels: U8, frozen: Bool, patches: Iterable[tuple[int, int, U8]], limit: U8
    ) -> Seen:
        for luma in (self._now, self._leaving):
            self._drop(luma)
        self._now = self._leaving = None
        with self._pictures.staging:
            self._now = self._luma_of(picture)
        self._limit = limit
        return self._look(levels, frozen=frozen, heal=_px_of(patches, self._wh[0]), limit=limit)

    def relight(self, table: U8, *, earlier: bool) -> Seen:
        background = self._background
        assert background is not None
        self._map(background.pointer, background.shape[1], background.pointer, background.shape[1], table)
        if earlier:
            self._previous, self._before = self._relit(self._previous, table), self._relit(self._before, table)
        return self._look(self._still(), frozen=None, heal=None, limit=self._limit)

    def active(self) -> tuple[U8, U8, U8]:
        assert self._room is not None
        room, count = self._room, self._room.count
        if count > room.most:
            self._whole_mirrors()
        else:
            if count > room.sent:
                room.fetch(self._device, count)
            room.mirror(count)
        width, height = self._wh
        now, previous, background = (plane[:height, :width] for plane in room.mirrors)
        return now, previous, background

    def whole(self) -> tuple[U8, U8]:
        assert self._now is not None
        assert self._background is not None
        return self._host(self._now), self._read(self._background.pointer, self._background.shape[1])

    def earlier(self) -> tuple[U8, U8 | None]:
        assert self._previous is not None
        return self._host(self._previous), None if self._before is None else self._host(self._before)

    def planes(self) -> MotionPlanes:
        background = self._background
        assert background is not None
        pictures = [luma.picture for luma in (self._previous, self._before) if luma is not None]
        return MotionPlanes(
            _shown(self._previous),
            _shown(self._before),
            DevicePlane(background.pointer, background.shape[1]),
            owner=pictures,
        )

    def remember(self) -> None:
        self._drop(self._leaving)
        self._leaving, self._before, self._previous, self._now = self._before, self._previous, self._now, None

    def resume(self, picture: Picture, before_previous: U8, background: U8) -> None:
        self._drop_all()
        with self._pictures.staging:
            self._previous = self._luma_of(picture)
        assert self._background is not None
        own = self._own()
        with self._staging:
            self._staging.rows(background, self._background, (0, len(background)))
            self._staging.rows(before_previous, own, (0, len(before_previous)))
        self._before = _Luma(None, own.pointer, own.shape[1], own)

    def close(self) -> None:
        """Give every buffer back. What the stream still reads of them is read before they are used again."""
        self._drop_all()
        self._pictures.keep(_WHO, ())
        for array in (self._background, self._job):
            if array is not None:
                self._device.release(array)
        self._background = self._job = None
        if self._room is not None:
            self._room.close(self._device)
            self._room = None
        self._staging.close()
        self._wh = (0, 0)

    # --------------------------------------------------------------------------------------------------------- planes

    def _fit(self, wh: tuple[int, int], grid: tuple[int, int]) -> None:
        """Buffers for pictures of this size."""
        self._grid = grid
        if wh == self._wh:
            return
        self.close()
        self._wh = wh
        self._background = self._own()
        self._room = Readback(self._device, wh, grid)

    def _own(self) -> DeviceArray:
        return self._device.empty((self._wh[1], -(-self._wh[0] // 16) * 16), np.uint8)

    def _keep(self, *more: Picture) -> None:
        lumas = (self._now, self._previous, self._before, self._leaving)
        held = [luma.picture for luma in lumas if luma is not None]
        self._pictures.keep(_WHO, [*more, *(picture for picture in held if picture is not None)])

    def _drop(self, luma: _Luma | None) -> None:
        if luma is not None and luma.own is not None:
            self._device.release(luma.own)

    def _drop_all(self) -> None:
        for luma in (self._now, self._previous, self._before, self._leaving):
            self._drop(luma)
        self._now = self._previous = self._before = self._leaving = None

    def _luma_of(self, picture: Picture) -> _Luma:
        self._keep(picture)
        pointer, pitch, _, wide, _ = self._pictures.plane(picture, "y")
        if not wide:
            return _Luma(picture, pointer, pitch)
        own = self._own()
        self._map(pointer, pitch, own.pointer, own.shape[1], _IDENTITY, wide=True)
        return _Luma(picture, own.pointer, own.shape[1], own, DevicePlane(pointer, pitch, wide=True))

    def _relit(self, luma: _Luma | None, table: U8) -> _Luma | None:
        if luma is None:
            return None
        own = self._own()
        self._map(luma.pointer, luma.pitch, own.pointer, own.shape[1], table)
        self._drop(luma)
        return _Luma(None, own.pointer, own.shape[1], own)

    def _map(self, pointer: int, pitch: int, to: int, pitch_to: int, table: U8, *, wide: bool = False) -> None:
        width, height = self._wh
        with self._staging:
            raw = self._staging.take(256 + LEVELS.itemsize)
            sheet = self._device.empty(raw.shape, np.uint8)
            raw[:256] = table
            job = raw[256:].view(LEVELS)[0]
            job["from"], job["to"], job["table"] = pointer, to, sheet.pointer
            job["pitch_from"], job["pitch_to"], job["width"], job["height"] = pitch, pitch_to, width, height
            job["wide"], job["reserved"] = wide, 0
            self._device.upload(raw, sheet)
            self._kernel("map_levels")((-(-width // (4 * _THREADS)), height), (_THREADS, 1, 1), sheet.pointer + 256)
            self._device.release(sheet)

    def _host(self, luma: _Luma) -> U8:
        """Every px of it on the host: the picture's own where it is that."""
        if luma.picture is not None:
            plane = luma.picture.luma
            return plane if plane.strides[1] == 1 else np.ascontiguousarray(plane)
        return self._read(luma.pointer, luma.pitch)

    def _read(self, pointer: int, pitch: int) -> U8:
        width, height = self._wh
        rows = np.empty((height, pitch), np.uint8)
        flat = rows.reshape(-1)[: (height - 1) * pitch + width]
        self._device.download(DeviceArray(pointer, flat.shape, flat.dtype), flat)
        self._device.synchronize()
        return rows[:, :width]

    def _whole_mirrors(self) -> None:
        assert self._room is not None
        assert self._now is not None
        assert self._previous is not None
        assert self._background is not None
        width, height = self._wh
        background = self._background.pointer, self._background.shape[1]
        for mirror, (pointer, pitch) in zip(
            self._room.mirrors,
            ((self._now.pointer, self._now.pitch), (self._previous.pointer, self._previous.pitch), background),
            strict=True,
        ):
            mirror[:height, :width] = self._read(pointer, pitch)
        self._room.filled = None

    # ------------------------------------------------------------------------------------------------------- the pass

    def _still(self) -> U8:
        return np.zeros(-(-self._wh[1] // _STRIPE_PX), np.uint8)

    def _look(self, levels: U8, *, frozen: Bool | None, heal: NDArray[np.int32] | None, limit: U8 | None) -> Seen:
        room, now, background = self._room, self._now, self._background
        assert room is not None
        assert now is not None
        assert background is not None
        before = self._previous or now
        parts: dict[str, NDArray[Any]] = {
            "levels": levels,
            "frozen": (np.zeros(room.shape, np.bool_) if frozen is None else frozen).view(np.uint8),
            "limit": np.full(room.shape, 255, np.uint8) if limit is None else limit,
            "heal": np.zeros(0, np.int32) if heal is None else heal,
        }
        at, size = {}, -(-MOTION.itemsize // 16) * 16
        for name, part in parts.items():
            at[name], size = size, size + -(-part.nbytes // 16) * 16
        if self._job is None or self._job.nbytes < size:
            if self._job is not None:
                self._device.release(self._job)
            self._job = self._device.empty((2 * size,), np.uint8)
        with self._staging:
            raw = self._staging.take(size)
            for name, part in parts.items():
                raw[at[name] : at[name] + part.nbytes] = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            job = raw[: MOTION.itemsize].view(MOTION)[0]
            room.describe(job)
            for name, start in at.items():
                job[name] = self._job.pointer + start
            job["now"], job["before"], job["background"] = now.pointer, before.pointer, background.pointer
            job["pitch_now"], job["pitch_before"] = now.pitch, before.pitch
            job["pitch_background"], (job["width"], job["height"]) = background.shape[1], self._wh
            job["grid_first"], job["grid_step"] = self._grid
            job["heals"] = len(parts["heal"])
            self._device.upload(raw, self._job[:size])
        self._launch(room, heals=len(parts["heal"]))
        return room.read(self._device)

    def _launch(self, room: Readback, *, heals: int) -> None:
        job = self._job
        assert job is not None
        self._device.fill(room.counter)
        rows, columns = room.shape
        blocks = (-(-columns // _THREADS), rows)
        if heals:
            self._kernel("heal_background")((min(-(-heals // _THREADS), _HEAL_BLOCKS), 1), (_THREADS, 1, 1), job)
        self._kernel("motion_blocks")(blocks, (_THREADS, 1, 1), job)
        grid_rows, grid_columns = room.grid
        self._kernel("sample_grid")((-(-grid_columns // _THREADS), grid_rows), (_THREADS, 1, 1), job)
        self._kernel("list_blocks")(blocks, (_THREADS, 1, 1), job)
        self._kernel("gather_blocks")((room.most, 1), (64, 1, 1), job)

    def _kernel(self, name: str) -> Any:
        return self._device.kernel(_FATBIN, name)


def _shown(luma: _Luma | None) -> DevicePlane | None:
    return None if luma is None else luma.shown or DevicePlane(luma.pointer, luma.pitch)


def _px_of(patches: Iterable[tuple[int, int, U8]], width: int) -> NDArray[np.int32]:
    """Numbers (y * width + x) of the px under the masks."""
    found = []
    for x, y, mask in patches:
        down, across = np.nonzero(mask)
        found.append((down + y) * width + across + x)
    return np.concatenate(found).astype(np.int32) if found else np.zeros(0, np.int32)
