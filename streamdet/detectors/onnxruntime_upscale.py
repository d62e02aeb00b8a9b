"""Super-resolution networks as ONNX files: (N,1,h,w) luma or (N,3,h,w) RGB in, the same a few times as large out.

Levels 0..1 or 0..255 are told apart by what comes out of grey noise. A network for luma (ESPCN, FSRCNN, ...) gets the Y of
BT.601; its colour differences are upscaled by bicubic interpolation. A file of fixed size takes tiles that fit into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from streamdet.errors import ModelError
from streamdet.types import F32

__all__ = ["OnnxUpscaler"]

_PROBE_PX = 32


class OnnxUpscaler:
    """`streamdet.tiles.upscale.Upscaler`. Raises ModelError for a file that is no such network. For one thread at a time."""

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        self._path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no base but Exception
            raise ModelError(f"the upscaler {path} cannot be loaded: {str(error).splitlines()[0][:200]}") from None
        ports = self._session.get_inputs()
        shape = ports[0].shape
        if len(ports) != 1 or len(shape) != 4 or shape[1] not in (1, 3) or ports[0].type != "tensor(float)":
            raise ModelError(
                f"the upscaler {path} takes {[(port.name, port.shape, port.type) for port in ports]}; "
                "one float picture (N, 1 or 3, height, width) is what can be fed"
            )
        self._name: str = ports[0].name
        self._channels = int(shape[1])
        self._fixed = tuple(side if isinstance(side, int) else None for side in shape[2:])
        self._levels = 1.0
        self.factor, self._levels = self._probe()

    def __call__(self, planes: F32, wh: tuple[int, int]) -> F32:
        if len(planes) == 3 and self._channels == 3:
            return _to_size(self._run(planes), wh)
        if len(planes) == 3:
            rgb = np.ascontiguousarray(planes.transpose(1, 2, 0))
            ycc = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb, dst=None)
            luma = _to_size(self._run(np.asarray(ycc[None, ..., 0], np.float32)), wh)[0]
            colour = [cv2.resize(np.ascontiguousarray(ycc[..., k]), wh, interpolation=cv2.INTER_CUBIC) for k in (1, 2)]
            larger = cv2.cvtColor(cv2.merge([luma, *colour]), cv2.COLOR_YCrCb2RGB)
            return np.ascontiguousarray(np.asarray(larger, np.float32).transpose(2, 0, 1))
        grey = [plane[None] for plane in planes]  # one picture each: grey networks, several frames
        fed = [np.repeat(plane, 3, 0) if self._channels == 3 else plane for plane in grey]
        return np.concatenate([_to_size(self._run(plane).mean(0, keepdims=True), wh) for plane in fed])

    def _run(self, planes: F32) -> F32:
        """(C,h,w) levels 0..255 -> (C, factor h, factor w)."""
        height, width = planes.shape[1:]
        fixed_h, fixed_w = self._fixed[0] or height, self._fixed[1] or width
        if height > fixed_h or width > fixed_w:
            raise ModelError(
                f"the upscaler {self._path} takes {fixed_w}x{fixed_h} px and a tile has {width}x{height}; "
                "use smaller tiles, or export it for any size"
            )
        padding = ((0, 0), (0, fixed_h - height), (0, fixed_w - width))
        fed = np.pad(planes, padding, mode="edge")[None] * np.float32(self._levels / 255)
        try:
            (out,) = self._session.run(None, {self._name: fed.astype(np.float32)})[:1]
        except Exception as error:
            raise ModelError(f"the upscaler {self._path} failed: {str(error).splitlines()[0][:200]}") from None
        if out.ndim != 4 or out.shape[1] != planes.shape[0] or out.shape[2] % fixed_h or out.shape[3] % fixed_w:
            raise ModelError(f"the upscaler {self._path} made {out.shape} of {fed.shape}; that is no upscaled picture")
        across = out.shape[3] // fixed_w
        larger = np.asarray(out[0, :, : height * across, : width * across], np.float32)
        return larger * np.float32(255 / self._levels)

    def _probe(self) -> tuple[int, float]:
        """How many times larger it makes pictures, and the level that is white."""
        side_h, side_w = self._fixed[0] or _PROBE_PX, self._fixed[1] or _PROBE_PX
        noise = (
            np.random.default_rng(0)
            .uniform(64, 192, (self._channels, side_h // 4 + 1, side_w // 4 + 1))
            .astype(np.float32)
        )
        picture = np.stack([cv2.resize(plane, (side_w, side_h), interpolation=cv2.INTER_CUBIC) for plane in noise])
        errors = {}
        for levels in (1.0, 255.0):
            self._levels = levels
            larger = self._run(picture)
            errors[levels] = float(np.abs(_to_size(larger, (side_w, side_h)) - picture).mean())
        best = min(errors, key=lambda levels: errors[levels])
        if errors[best] > 40:
            raise ModelError(
                f"the upscaler {self._path} changes pictures beyond recognition; is it for 0..1 or 0..255, RGB or Y?"
            )
        return larger.shape[2] // side_h, best


def _to_size(planes: F32, wh: tuple[int, int]) -> F32:
    if planes.shape[:0:-1] == wh:
        return planes
    shrinks = planes.shape[2] > wh[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.stack([cv2.resize(np.ascontiguousarray(plane), wh, interpolation=method) for plane in planes])
