"""Packing: from planes of a picture to the network's input, tile by tile. This file *defines* the result.

For one output pixel of one tile, in real numbers (`streamdet.tiles.sample` says where it looks):

- Y is sampled from the tile's crop of the luma plane; U and V from chroma rows and columns ``floor(x1 / 2)`` up to
  ``ceil(x2 / 2)``, a chroma sample sitting in the middle of its 2x2 luma px, so at twice the luma's scale.
- ``y = a (Y - y0)``; ``r = y + kr (V-128)``, ``b = y + kb (U-128)``, ``g = y - kg (U-128) - kh (V-128)`` with the
  constants of the picture's matrix and range; each clipped to 0..255. A BGR picture's channels are sampled as they are.
- the network gets ``(value - mean) / std``; padding is `pad_value` treated likewise.
- a difference is taken between raw luma levels at native resolution, sampled like Y, divided by `signed_scale` and
  clipped to ``+-signed_clip``; its padding is 0.

The code computes this in float32, except that crops of more than `FLOAT_PX` px that are scaled (a coarse tile over a
whole large frame) are sampled in 8 bits, within 2 grey levels; of a picture that is read in windows, from its overview, which is
the same area mean taken in two steps (a box that fills less than two overview px per output px is read in full).
Plain colours in bytes are computed in 8 bits throughout (`streamdet.tiles.pack_bytes`), within 3 grey levels.
Work and memory are those of the tiles given: nothing here touches the rest of the frame, nor makes its BGR.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamdet.inputspec import InputSpec
from streamdet.tiles.pack_bytes import ByteWriter
from streamdet.tiles.sample import FLOAT_PX, float_crop, sample
from streamdet.types import F32, U8, Frame, Matrix, Motion, Picture, TileBatch, TilePlan

__all__ = ["CpuPacker", "colour_rows", "luma_row"]

_LUMA_SHARES: dict[
    Matrix, tuple[float, float]
] = {  # (red, blue): ITU-R BT.601, BT.709, BT.2020 (non-constant luminance)
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
_PATIENCE = 64  # calls that need a quarter of the buffer at most, before it is given back
_DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_CV_HALF = int(cv2.__version__.split(".")[0]) >= 5  # OpenCV 5 turns f32 into f16 ten times faster than numpy

Box = tuple[int, int, int, int]


def luma_row(full_range: bool) -> tuple[float, float]:
    """(a, y0) of ``y = a (Y - y0)``."""
    return (1.0, 0.0) if full_range else (255 / 219, 16.0)


def colour_rows(matrix: Matrix, full_range: bool) -> dict[str, tuple[float, float]]:
    """For r, g, b: what U-128 and V-128 are multiplied by before they are added to y. Source: ITU-R BT.601/709/2020."""
    red, blue = _LUMA_SHARES[matrix]
    green = 1 - red - blue
    gain = 1.0 if full_range else 255 / 224
    for_v, for_u = 2 * (1 - red) * gain, 2 * (1 - blue) * gain
    return {"r": (0.0, for_v), "g": (-for_u * blue / green, -for_v * red / green), "b": (for_u, 0.0)}


class CpuPacker:
    """A Packer, of collages too. ``data`` of the batch it returns is overwritten by its next call.

    Call it for every frame that is not a repeat, also with no tiles: networks that look at several frames count these
    calls as the past. It may be called several times for one frame (some tiles each). A new epoch or frame size forgets
    the past; where the past is too short, its oldest picture stands in.
    """

    collages = True

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._channels = spec.parsed
        self._pictures: deque[Picture] = deque(maxlen=spec.history + 1)  # newest last
        self._seen: tuple[str, int, int, tuple[int, int]] | None = None
        self._buffer: NDArray[Any] = np.empty((0, 0, 0, 0), _DTYPES[spec.dtype])
        self._planes: F32 = np.empty((0, 0, 0), np.float32)
        self._luma: F32 = np.empty((0, 0), np.float32)
        self._sampled: dict[int, F32] = {}  # by id of the plane, within one tile
        self._idle, self._idle_most = 0, 0
        self._direct = spec.layout == "nchw" and spec.dtype == "float32"
        self._bytes = _plain_colours(spec)  # that `pack_bytes` writes, in order; other channels are differences
        self._writer = ByteWriter()
        self._pad = [
            0.0 if channel.signed else gain * spec.pad_value + offset
            for channel, (gain, offset) in zip(self._channels, map(spec.affine, range(len(self._channels))))
        ]

    def __call__(self, frame: Frame, motion: Motion, tiles: TilePlan) -> TileBatch:
        self._remember(frame, motion)
        data = self._room(tiles.slots, tiles.input_wh)
        boxes, scales, corners = tiles.xyxy.tolist(), tiles.scale.astype(np.float64).tolist(), tiles.corner.tolist()
        ends = np.searchsorted(tiles.slot_rows, np.arange(tiles.slots), side="right").tolist()
        first = 0
        for slot, last in enumerate(ends):
            pieces = []
            for row in range(first, last):
                box = boxes[row]
                wh = tuple(max(1, round((box[2 + i] - box[i]) * scales[row][i])) for i in (0, 1))
                pieces.append((tuple(corners[row]), wh, tuple(box)))
            first = last
            if self._bytes is not None:
                self._pack_bytes(data[slot], pieces, motion)
                continue
            planes = data[slot] if self._direct else self._planes
            self._pack_planes(planes, pieces, motion)
            if not self._direct:
                self._convert(planes, data[slot])
        return TileBatch(data, tiles, frame, motion)

    def _pack_planes(self, planes: F32, pieces: list[Any], motion: Motion) -> None:
        """`pieces`: corner in the input, (width, height) there, box in the frame."""
        alone = len(pieces) == 1 and not any(pieces[0][0])
        if not alone:
            for plane, pad in zip(planes, self._pad):
                plane[:] = pad
        for (x, y), (width, height), box in pieces:
            self._fill(planes[:, y : y + height, x : x + width], motion, box)
        if alone:
            width, height = pieces[0][1]
            for plane, pad in zip(planes, self._pad):
                plane[:height, width:] = pad
                plane[height:] = pad

    def _pack_bytes(self, out: U8, pieces: list[Any], motion: Motion) -> None:
        """The same for plain colours in bytes, (h, w, 3) `out`."""
        if sum(width * height for _, (width, height), _ in pieces) < out.shape[0] * out.shape[1]:
            pad = min(max(round(self.spec.pad_value), 0), 255)
            out[:] = [128 if channel.signed else pad for channel in self._channels]
        for (x, y), (width, height), box in pieces:
            target = out[y : y + height, x : x + width]
            if not self._write_bytes(target, motion, box):
                planes = self._planes[:, :height, :width]
                self._fill(planes, motion, box)
                self._round(planes)
                np.copyto(target, planes.transpose(1, 2, 0), casting="unsafe")

    def _write_bytes(self, target: U8, motion: Motion, box: Box) -> bool:
        size, signed = (target.shape[1], target.shape[0]), self._channels[3:]
        if not signed:
            return self._write_colours(target, box)
        colours = self._writer.colours_of(size)
        if not self._write_colours(colours, box):
            return False
        most = round(self.spec.signed_scale * self.spec.signed_clip)
        pairs = difference_planes(motion)
        planes = self._writer.differences([pairs[one.what] for one in signed], box, size, most)
        if planes is None:
            return False
        self._writer.join(target, [colours, *planes])
        return True

    def _write_colours(self, target: U8, box: Box) -> bool:
        assert self._bytes is not None
        picture = self._pictures[-1]
        if picture.chroma is None:
            crop = _bgr_crop(picture, box, (target.shape[1], target.shape[0]))
            self._writer.write_bgr(target, crop, swapped=self._bytes == "rgb")
            return True
        slope, black = luma_row(picture.full_range)
        rows = colour_rows(picture.matrix, picture.full_range)
        mixed = [(slope, *rows[what], -slope * black - 128 * sum(rows[what])) for what in self._bytes]
        return self._writer.write_yuv(target, picture, box, np.asarray(mixed, np.float32))

    def _round(self, planes: F32) -> None:
        """To whole levels, in place."""
        for plane, channel in zip(planes, self._channels):
            if channel.signed:
                plane *= np.float32(self.spec.signed_scale)
                plane += np.float32(128)
        np.clip(np.rint(planes, out=planes), 0, 255, out=planes)

    def _remember(self, frame: Frame, motion: Motion) -> None:
        now = frame.stream, frame.epoch, frame.index, frame.wh
        if frame.still or self._seen is None or (now[:2], now[3]) != (self._seen[:2], self._seen[3]):
            self._pictures.clear()
        elif now == self._seen or motion.state == "repeat":
            return
        self._pictures.append(frame.picture)
        self._seen = now

    def _room(self, count: int, input_wh: tuple[int, int]) -> NDArray[Any]:
        """A tensor for `count` tiles: grown at once when needed, given back when long too large."""
        shape = self.spec.shape(count, input_wh)
        self._idle = self._idle + 1 if count * 4 <= len(self._buffer) else 0
        self._idle_most = max(self._idle_most, count) if self._idle else 0
        if self._buffer.shape[1:] != shape[1:] or count > len(self._buffer) or self._idle > _PATIENCE:
            self._buffer = _aligned((max(count, self._idle_most), *shape[1:]), self._buffer.dtype)
            self._idle, self._idle_most = 0, 0
            if not self._direct:
                self._planes = _aligned((len(self._channels), input_wh[1], input_wh[0]), np.dtype(np.float32))
            self._luma = _aligned((input_wh[1], input_wh[0]), np.dtype(np.float32))
        return self._buffer[:count]

    def _fill(self, planes: F32, motion: Motion, box: Box) -> None:
        """Write every channel of one tile into `planes` (C, oh, ow)."""
        self._sampled.clear()
        by_picture: dict[int, dict[int, str]] = {}
        for index, channel in enumerate(self._channels):
            if channel.signed:
                self._difference(planes[index], motion, channel.what, box)
            else:
                by_picture.setdefault(channel.offset, {})[index] = channel.what
        for offset, wanted in by_picture.items():
            picture = self._pictures[max(0, len(self._pictures) - 1 + offset)]
            if picture.chroma is None:
                self._from_bgr(planes, picture, wanted, box)
            else:
                self._from_yuv(planes, picture, wanted, box)

    def _difference(self, out: F32, motion: Motion, what: str, box: Box) -> None:
        planes = difference_planes(motion)[what]
        if planes[0] is None or planes[1] is None:
            out[:] = 0
            return
        gain = np.float32(1 / self.spec.signed_scale)
        if out.shape == (box[3] - box[1], box[2] - box[0]):
            np.multiply(np.subtract(_crop(planes[0], box), _crop(planes[1], box), dtype=np.int16), gain, out=out)
        else:  # sampling is linear: the planes share their samples with the colours and each other
            np.subtract(self._at_size(planes[0], box, out), self._at_size(planes[1], box, out), out=out)
            out *= gain
        np.clip(out, -self.spec.signed_clip, self.spec.signed_clip, out=out)

    def _at_size(self, plane: U8, box: Box, like: F32) -> F32:
        """The crop of `plane` resampled to the size of `like`; shared by the channels of one tile."""
        if id(plane) not in self._sampled:
            small = np.empty(like.shape, np.float32)
            crop = _crop(plane, box)
            scale = like.shape[1] / crop.shape[1], like.shape[0] / crop.shape[0]
            sample(float_crop(crop, scale), small, scale_xy=scale)
            self._sampled[id(plane)] = small
        return self._sampled[id(plane)]

    def _from_yuv(self, planes: F32, picture: Picture, wanted: dict[int, str], box: Box) -> None:
        out_h, out_w = planes.shape[1:]
        scale = out_w / (box[2] - box[0]), out_h / (box[3] - box[1])
        luma = _crop(picture.luma, box) if scale == (1.0, 1.0) else self._at_size(picture.luma, box, planes[0])
        chroma = None if all(what == "y" for what in wanted.values()) else _Chroma(picture, box, scale, (out_h, out_w))
        slope, black = luma_row(picture.full_range)
        scaled, scaled_gain = self._luma[:out_h, :out_w], 0.0
        for index, what in wanted.items():
            gain, offset = self.spec.affine(index)
            shift = offset - slope * black * gain
            low, high = sorted((offset, gain * 255 + offset))
            if what == "y" and luma.dtype == np.uint8:
                levels = np.clip(np.arange(256) * (slope * gain) + shift, low, high).astype(np.float32)
                cv2.LUT(np.ascontiguousarray(luma), levels.reshape(1, 256), dst=planes[index])
                continue
            if chroma is None or what == "y":
                np.multiply(luma, np.float32(slope * gain), out=planes[index])
                planes[index] += np.float32(shift)
            else:
                chroma.write(planes[index], what, gain, shift)
                if gain != scaled_gain:
                    np.multiply(luma, np.float32(slope * gain), out=scaled)
                    scaled_gain = gain
                planes[index] += scaled
            np.clip(planes[index], np.float32(low), np.float32(high), out=planes[index])

    def _from_bgr(self, planes: F32, picture: Picture, wanted: dict[int, str], box: Box) -> None:
        out_h, out_w = planes.shape[1:]
        crop: NDArray[Any] = np.ascontiguousarray(_bgr_crop(picture, box, (out_w, out_h)))
        scale = out_w / crop.shape[1], out_h / crop.shape[0]
        sources: dict[str, NDArray[Any]] = {}
        luma = None
        if "y" in wanted.values():
            held = picture.windows is None
            luma = _crop(picture.luma, box) if held else cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        if any(what != "y" for what in wanted.values()):
            if scale != (1.0, 1.0):
                sampled = np.empty((out_h, out_w, 3), np.float32)
                sample(float_crop(crop, scale), sampled, scale_xy=scale)
                crop = sampled
            sources = dict(zip("bgr", cv2.split(crop)))
        for index, what in wanted.items():
            gain, offset = self.spec.affine(index)
            if what == "y":
                assert luma is not None
                sample(float_crop(luma, scale), planes[index], scale_xy=scale)
                planes[index] *= np.float32(gain)
            else:
                np.multiply(sources[what], np.float32(gain), out=planes[index])
            if offset:
                planes[index] += np.float32(offset)

    def _convert(self, planes: F32, out: NDArray[Any]) -> None:
        """From f32 planes to the tensor's type and layout."""
        if self.spec.dtype == "uint8":
            self._round(planes)
        if self.spec.layout == "nhwc":
            pixels = cv2.merge(list(planes)).reshape(out.shape)
            _cast(pixels.reshape(len(pixels), -1), out.reshape(len(out), -1))
        else:
            for plane, target in zip(planes, out):
                _cast(plane, target)


def difference_planes(motion: Motion) -> dict[str, tuple[U8 | None, U8 | None]]:
    """What is subtracted from what."""
    return {
        "difference": (motion.luma, motion.previous),
        "previous_difference": (motion.previous, motion.before_previous),
        "background_difference": (motion.luma, motion.background),
    }


def _plain_colours(spec: InputSpec) -> str | None:
    """ "rgb" or "bgr", if a tile in bytes begins with these, as they are, and the rest are differences."""
    first, rest = spec.parsed[:3], spec.parsed[3:]
    named = "".join(channel.what for channel in first)
    whole = all(spec.affine(index) == (1.0, 0.0) for index in range(len(first)))
    fits = spec.dtype == "uint8" and spec.layout == "nhwc" and spec.history == 0 and whole
    return named if named in ("rgb", "bgr") and fits and all(channel.signed for channel in rest) else None


class _Chroma:
    """U-128 and V-128 of one tile, ready to be mixed and brought to the output's grid."""

    def __init__(self, picture: Picture, box: Box, scale: tuple[float, float], shape: tuple[int, int]) -> None:
        assert picture.chroma is not None
        x1, y1, x2, y2 = box
        self._rows = colour_rows(picture.matrix, picture.full_range)
        self._scale = scale[0] * 2, scale[1] * 2
        self._shift = x1 % 2 / 2, y1 % 2 / 2
        self._planes: list[F32] = []
        self._ready = False  # already on the output's grid
        for plane in picture.chroma:
            crop = float_crop(plane[y1 // 2 : (y2 + 1) // 2, x1 // 2 : (x2 + 1) // 2], self._scale)
            if crop.dtype == np.uint8:
                small = np.empty(shape, np.float32)
                sample(crop, small, scale_xy=self._scale, shift_xy=self._shift)
                crop, self._ready = small, True
            self._planes.append(crop - np.float32(128))

    def write(self, out: F32, what: str, gain: float, shift: float) -> None:
        """``out = gain * (ku (U-128) + kv (V-128)) + shift``: mixed where it is small, sampled after (both are linear)."""
        parts = [plane * np.float32(k * gain) for plane, k in zip(self._planes, self._rows[what]) if k]
        mixed = parts[0]
        for part in parts[1:]:
            mixed += part
        mixed += np.float32(shift)
        if self._ready:
            out[:] = mixed
        else:
            sample(mixed, out, scale_xy=self._scale, shift_xy=self._shift)


def _bgr_crop(picture: Picture, box: Box, out_wh: tuple[int, int]) -> U8:
    """The pixels of a box. Of a large one of a windowed picture that is shrunk: those of its overview, if they are enough."""
    width, height = picture.wh
    if picture.windows is None or (box[2] - box[0]) * (box[3] - box[1]) <= FLOAT_PX:
        return picture.bgr_of(box)
    overview = picture.windows.overview()
    x, y = overview.shape[1] / width, overview.shape[0] / height
    if (box[2] - box[0]) * x < 2 * out_wh[0] or (box[3] - box[1]) * y < 2 * out_wh[1]:
        return picture.bgr_of(box)
    return overview[round(box[1] * y) : round(box[3] * y), round(box[0] * x) : round(box[2] * x)]


def _crop(plane: U8, box: Box) -> U8:
    x1, y1, x2, y2 = box
    return plane[y1:y2, x1:x2]


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An empty array that begins on a cache line: unaligned ones made packing up to twice as slow."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _cast(values: F32, out: NDArray[Any]) -> None:
    """Copy `values` into `out` of another type, both (rows, columns); values for u8 are whole already."""
    if out.dtype == np.float16 and _CV_HALF:
        cv2.add(values, np.zeros(1), dst=out, dtype=cv2.CV_16F)
    else:
        np.copyto(out, values, casting="unsafe")
