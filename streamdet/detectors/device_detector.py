"""A network on the GPU: tiles that were packed there, the network, and its answers read back, in one recorded piece of work.

The model is known as on the CPU: by its file and one inference on noise there. Then it is prepared for the GPU (free batch, half
precision), so that the packer makes what that copy takes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from streamdet.config import GpuConfig, ModelConfig
from streamdet.detectors.classes import map_classes
from streamdet.detectors.decode.layout import Candidates
from streamdet.detectors.device_backend import DeviceBackend, DeviceRaw
from streamdet.detectors.network import NetworkDetector, moved
from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend
from streamdet.detectors.prepared import prepared
from streamdet.detectors.sniff import ModelSpec, input_shape, noise, sniff
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.device import Device
from streamdet.frame_graph import FrameGraph
from streamdet.types import Detections, DeviceArray, TileBatch

__all__ = ["DeviceDetector", "HostReader", "Reader"]

MakeBackend = Callable[[ModelFile, Device], DeviceBackend]


class Reader(Protocol):
    """Takes a network's answers off the GPU."""

    def take(self, raw: DeviceRaw, first: int, rows: int, input_wh: tuple[int, int]) -> Callable[[], Candidates]:
        """Put the reading of `rows` tiles, the first of them number `first`, on the stream; may be recorded.

        What it returns gives the rows once the stream has come by, as often as that is replayed.
        """
        ...


class HostReader:
    """Raw answers to the host, decoded there: right for every family, and enough where answers are few."""

    def __init__(self, device: Device, spec: ModelSpec, floor: float) -> None:
        self._device = device
        self._spec = spec
        self._floor = floor
        self._pinned: dict[tuple[int, str, tuple[int, ...], str], NDArray[Any]] = {}

    def take(self, raw: DeviceRaw, first: int, rows: int, input_wh: tuple[int, int]) -> Callable[[], Candidates]:
        copies = {}
        for name, array in raw.items():
            copies[name] = self._host(first, name, array)
            self._device.download(array, copies[name])
        return functools.partial(self._decoded, copies, first, rows, input_wh)

    def _decoded(self, raw: dict[str, NDArray[Any]], first: int, rows: int, input_wh: tuple[int, int]) -> Candidates:
        spec = self._spec
        with np.errstate(over="ignore", invalid="ignore"):
            found = spec.family.decode(raw, spec.layout, input_wh, self._floor)
        real = (found.tile >= 0) & (found.tile < rows)  # not what fills up a fixed batch
        return moved(found[real], first)

    def _host(self, first: int, name: str, array: DeviceArray) -> NDArray[Any]:
        """Page-locked memory, the same for the same piece: recorded graphs hold its address."""
        key = first, name, array.shape, array.dtype.str
        if key not in self._pinned:
            self._pinned[key] = self._device.pinned(array.shape, array.dtype)
        return self._pinned[key]


class DeviceDetector(NetworkDetector):
    """`streamdet.protocols.Detector`. Owns its Device while entered; ``device`` and ``frame`` are for the packers.

    `make_backend` gets the prepared file. `make_reader`: how answers come back (None: raw, decoded on the host).
    """

    def __init__(
        self,
        config: ModelConfig,
        path: str | Path,
        *,
        device: Device,
        gpu: GpuConfig,
        folder: Path,
        make_backend: MakeBackend,
        make_reader: Callable[[Device, ModelSpec, float], Reader | None] | None = None,
    ) -> None:
        super().__init__(config, read_model(path))
        self.device = device
        self._gpu = gpu
        self._folder = folder
        self._make_backend = make_backend
        self._make_reader = make_reader
        self._runs: DeviceBackend | None = None
        self._frame: FrameGraph | None = None
        self._reader: Reader | None = None
        self._host_tiles: DeviceArray | None = None  # room for tiles that were packed on the host

    def __enter__(self) -> Self:
        """Raises also StartupError: there is no such GPU, with the reason."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.device)  # first of all: without a GPU nothing else is touched
            spec = self._sniffed()
            file = prepared(self._file, precision=self._gpu.precision, folder=self._folder)
            dtype: Any = file.picture.dtype
            spec = replace(spec, input=replace(spec.input, dtype=dtype, batch=input_shape(file)[0]))
            self._classes = map_classes(spec.labels, self._config, spec.threshold, usual=spec.family.threshold)
            backend = stack.enter_context(self._make_backend(file, self.device))
            if spec.input.wh is not None:
                backend.bind(spec.input.shape(1, spec.input.wh)[1:])
            self._frame = FrameGraph(
                self.device,
                enabled=self._gpu.graphs and backend.recordable,
                room=max(backend.most, self._gpu.batch),
                spare=backend.least - 1,
            )
            stack.callback(self._frame.close)
            floor = spec.weak_share * self._map.floor
            made = self._make_reader(self.device, spec, floor) if self._make_reader else None
            self._reader = made or HostReader(self.device, spec, floor)
            self._runs, self._spec = backend, spec
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        self._runs = self._reader = self._frame = self._host_tiles = None
        super().__exit__(kind, error, trace)

    @property
    def frame(self) -> FrameGraph:
        """Where the packers leave their launches."""
        if self._frame is None:
            raise RuntimeError("the detector is not entered yet")
        return self._frame

    @property
    def _about(self) -> str:
        return self._runs.about if self._runs is not None else "closed"

    @property
    def local(self) -> bool:  # plans are compiled for the file's own size
        return False

    def bind(self, input_wh: tuple[int, int]) -> None:
        """Be ready for tiles of `input_wh` px: compiles now what would else be compiled at the first frame.

        On another thread than the one that runs the detector it is left for then.
        """
        if self._runs is not None and self.frame.at_home:
            self._runs.bind(self.input.shape(1, input_wh)[1:])

    def together(self, batches: Sequence[TileBatch]) -> list[Detections]:
        with self.frame.here():
            return super().together(batches)

    def _sniffed(self) -> ModelSpec:
        """What the model is, from one inference of the user's own file on the CPU."""
        with OnnxRuntimeBackend(self._file, threads=1) as cpu:
            sample = next((dict(raw) for _, _, raw in cpu.infer(noise(self._file))), {})
        return sniff(self._file, sample)

    def _groups(self, batches: Sequence[TileBatch]) -> list[list[int]]:
        """Batches that lie one behind the other on the GPU are run together; those from the host by the size of their tiles."""
        groups: list[list[int]] = []
        for index, batch in enumerate(batches):
            if not len(batch.tiles):
                continue
            if groups and _follows(batch.data, batches[groups[-1][-1]].data):
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _candidates(self, data: Sequence[Any], input_wh: tuple[int, int]) -> Candidates:
        backend, reader = self._runs, self._reader
        if backend is None or reader is None:
            raise RuntimeError("the detector is not entered yet")
        whole = self._whole(data)
        number = backend.bind(whole.shape[1:])

        def network() -> list[Callable[[], Candidates]]:
            pieces = _pieces(whole, backend.least, backend.most)
            return [reader.take(backend.run(piece), start, rows, input_wh) for start, rows, piece in pieces]

        taken = self.frame.run((number, whole.pointer, whole.shape, whole.dtype.str), network)
        self.device.synchronize()
        return Candidates.concat([rows() for rows in taken])

    def _whole(self, data: Sequence[Any]) -> DeviceArray:
        """The tiles of one group as one array on the GPU; what a packer made on the host is put up there first."""
        first = data[0]
        count = sum(len(part) for part in data)
        if isinstance(first, DeviceArray):
            return DeviceArray(first.pointer, (count, *first.shape[1:]), first.dtype)
        host = np.ascontiguousarray(np.concatenate(data), self.input.dtype)
        room = self._host_tiles
        if room is None or room.shape[1:] != host.shape[1:] or len(room) < count:
            if room is not None:
                self.device.release(room)
            most = self._runs.most if self._runs else count
            room = self._host_tiles = self.device.empty((-(-count // most) * most, *host.shape[1:]), host.dtype)
        self.device.upload(host, room[:count])
        self.device.synchronize()  # `host` goes now
        return room[:count]


def _follows(one: Any, last: Any) -> bool:
    """Whether `one` lies directly behind `last` on the GPU, or both come from the host."""
    if one.shape[1:] != last.shape[1:] or one.dtype != last.dtype or type(one) is not type(last):
        return False
    return not isinstance(one, DeviceArray) or one.pointer == last.pointer + last.nbytes


def _pieces(data: DeviceArray, least: int, most: int) -> Iterator[tuple[int, int, DeviceArray]]:
    """(first row, rows, tiles): as many as the network takes at once. A fixed batch reads beyond the last tiles, and what it says
    of those is dropped; the memory is there (`FrameGraph.spare`)."""
    for first in range(0, len(data), most):
        rows = min(most, len(data) - first)
        taken = max(rows, least)
        start = data[first : first + rows].pointer
        yield first, rows, DeviceArray(start, (taken, *data.shape[1:]), data.dtype)
