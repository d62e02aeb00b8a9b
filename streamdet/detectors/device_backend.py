"""The seam between a network and a runtime that works on the GPU's own memory: addresses in, addresses out, nothing waits."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from streamdet.detectors.sniff import extra_inputs
from streamdet.detectors.spec import ModelFile
from streamdet.device import Device
from streamdet.types import DeviceArray

__all__ = ["DeviceBackend", "DeviceRaw", "constants", "input_wh_of"]

DeviceRaw = Mapping[str, DeviceArray]
"""Outputs by name."""


class DeviceBackend(Protocol):
    """Runs one model file on the GPU. Nothing is touched before ``__enter__`` (ModelError, DependencyError, StartupError).

    ``most``: tiles in one run. ``recordable``: :meth:`run` may be recorded into a graph once that size has been run before.
    """

    @property
    def about(self) -> str: ...
    @property
    def most(self) -> int: ...
    @property
    def least(self) -> int: ...
    @property
    def recordable(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def bind(self, shape: tuple[int, ...]) -> int:
        """Be ready for tiles of this shape (without the batch): compile, allocate. May take minutes, and may wait.

        The number it returns is another one when the memory is: work recorded before must then not be replayed.
        """
        ...

    def run(self, data: DeviceArray) -> DeviceRaw:
        """Put the network on the stream for ``least`` to ``most`` tiles; outputs are overwritten by the next run."""
        ...


def input_wh_of(file: ModelFile, shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of one tile's shape."""
    return (shape[1], shape[0]) if file.nhwc else (shape[2], shape[1])


def constants(device: Device, file: ModelFile, wh: tuple[int, int], tiles: int) -> dict[str, DeviceArray]:
    """The inputs beside the picture, on the GPU, for up to `tiles` tiles. Yours to release. Waits for the stream."""
    made = {}
    for name, value in extra_inputs(file.extra, wh, tiles).items():
        host: np.ndarray[Any, Any] = np.ascontiguousarray(value)
        made[name] = device.empty(host.shape, host.dtype)
        device.upload(host, made[name])
    if made:
        device.synchronize()  # the host arrays go now
    return made
