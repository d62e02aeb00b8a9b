"""What can be put on a Device's stream, and marks in it: kernels, graphs, events. Made by `streamdet.device` only."""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from typing import Any, Protocol

from streamdet import libcuda
from streamdet.errors import StartupError
from streamdet.types import DeviceArray

__all__ = ["Event", "Graph", "Kernel", "told"]


class OnDevice(Protocol):
    """What these need of the Device they belong to."""

    @property
    def stream(self) -> int: ...
    @property
    def pycuda_stream(self) -> Any: ...
    @property
    def libcuda(self) -> ctypes.CDLL: ...


class Event:
    """A point in the stream: has the GPU come by it?"""

    def __init__(self, event: Any) -> None:
        self._event = event

    def close(self) -> None:
        self._event = None

    @property
    def done(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> None:
        """Return when the GPU has come by (the interpreter lock is free meanwhile)."""
        with told("waiting for it"):
            self._event.synchronize()

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds on the GPU between two events made with ``timed=True``."""
        return float(self._event.time_since(earlier._event))


class Kernel:
    """A function of a loaded module."""

    def __init__(self, on: OnDevice, function: Any, name: str) -> None:
        self._on = on
        self._function = function
        self.name = name

    def close(self) -> None:
        self._function = None

    def __call__(self, grid: tuple[int, ...], block: tuple[int, int, int], *pointers: int | DeviceArray) -> None:
        """Put a launch on the stream; every argument of our kernels is a device address."""
        addresses = [value if isinstance(value, int) else value.pointer for value in pointers]
        arguments = struct.pack(f"{len(addresses)}P", *addresses)
        with told(
            f"starting the kernel {self.name}"
        ):  # not by calling it: that asks for a block shape, long deprecated
            self._function._launch_kernel(grid, block, arguments, 0, self._on.pycuda_stream)


class Graph:
    """What was put on the stream while it was captured, to be put there again by one call, with the same addresses."""

    def __init__(self, on: OnDevice) -> None:
        self._on = on
        self._exec = ctypes.c_void_p()

    def launch(self) -> None:
        if not self._exec:
            raise RuntimeError("this graph was never captured, or is closed")
        with told("starting a graph"):
            libcuda.call(self._on.libcuda, "cuGraphLaunch", self._exec, ctypes.c_void_p(self._on.stream))

    def close(self) -> None:
        if self._exec:
            handle, self._exec = self._exec, ctypes.c_void_p()
            libcuda.call(self._on.libcuda, "cuGraphExecDestroy", handle)

    def take(self, graph: ctypes.c_void_p) -> None:
        try:
            libcuda.call(
                self._on.libcuda,
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._exec),
                graph,
                ctypes.c_ulonglong(0),
            )
        finally:
            libcuda.call(self._on.libcuda, "cuGraphDestroy", graph)


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """A driver's error as one sentence."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, libcuda.DriverError) and type(error).__module__.split(".")[0] != "pycuda":
            raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StartupError(
            f"the GPU failed while {doing}: {text}; see `streamdet info`, then try --device cpu"
        ) from error
