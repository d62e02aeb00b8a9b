"""What one frame puts on the GPU's stream, recorded once and then replayed by a single call.

The packers of all streams write into neighbouring rows of one batch (:meth:`FrameGraph.rows`) and leave their launch to
:meth:`FrameGraph.run`, which adds what the detector does with that batch: pack, infer and read back go to the GPU together. The
first time a shape is met its work is put on the stream as it is (libraries prepare themselves then), the second time it is
recorded, and from then on replayed. Work that cannot be recorded goes on unrecorded, with one line in the log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

from numpy.typing import DTypeLike

from streamdet.device import Device, Graph
from streamdet.errors import StartupError
from streamdet.types import DeviceArray

__all__ = ["FrameGraph", "Launching"]

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_GRAPHS_KEPT = 96  # one for each number of tiles that occurs, of each stream that is packed alone


class Launching(Protocol):
    """A packer whose work is prepared and not yet on the stream (`streamdet.tiles.pack_cuda.CudaPacker`)."""

    @property
    def graph_key(self) -> tuple[Any, ...]: ...
    def launch(self) -> None: ...
    def launched(self) -> None: ...


class FrameGraph:
    """Made on the thread that entered the Device; one thread at a time. `enabled` False: nothing is recorded.

    `room`: rows of the gathered batch (more if one packer needs more). `spare`: rows behind them that may be read, not written
    (a network with a fixed batch reads past the last tile). ``replayed``, ``recorded``: how often.
    """

    def __init__(self, device: Device, *, enabled: bool = True, room: int = 32, spare: int = 0) -> None:
        self._device = device
        self._enabled = enabled
        self._home = threading.get_ident()
        self._room = room
        self.spare = spare
        self._waiting: list[Launching] = []
        self._batch: DeviceArray | None = None
        self._used = 0
        self._met: set[Hashable] = set()
        self._graphs: OrderedDict[Hashable, tuple[Graph, Any]] = OrderedDict()  # and what `then` returned
        self._later: deque[Callable[[], None]] = deque()
        self.replayed = 0
        self.recorded = 0

    @property
    def at_home(self) -> bool:
        """Whether the calling thread is the one that entered the Device."""
        return threading.get_ident() == self._home

    def here(self) -> contextlib.AbstractContextManager[None]:
        """Make the GPU's context current, where the calling thread is not the one that entered the Device."""
        return contextlib.nullcontext() if self.at_home else self._device.on_this_thread()

    def rows(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray | None:
        """The next ``shape[0]`` rows of the batch that is being gathered; None if it has no room for them (or another shape)."""
        if not self._waiting:  # nobody uses what was gathered last
            self._used = 0
            self._fit(shape, dtype)
        batch = self._batch
        assert batch is not None
        first, last = self._used, self._used + shape[0]
        if batch.shape[1:] != shape[1:] or batch.dtype != dtype or last > len(batch) - self.spare:
            return None
        self._used = last
        return batch[first:last]

    def add(self, packer: Launching) -> None:
        """`packer` is prepared; its launch comes with the next :meth:`run`."""
        self._waiting.append(packer)

    def later(self, what: Callable[[], None]) -> None:
        """Have `what` done before the next :meth:`run`, or at the end. From any thread: a stream that ends gives its own back."""
        self._later.append(what)

    def _tidy(self) -> None:
        while self._later:
            self._later.popleft()()

    def run(self, key: Hashable, then: Callable[[], T]) -> T:
        """Launch whoever waits, then do what `then` puts on the stream; what it returned, now or when this was recorded.

        `key`: everything that the work of `then` depends on.
        """
        self._tidy()
        waiting, self._waiting = self._waiting, []
        whole = (key, tuple(packer.graph_key for packer in waiting))

        def work() -> T:
            for packer in waiting:
                packer.launch()
            return then()

        recorded = self._graph(whole, work) if self._enabled else None
        if recorded is None:
            result = work()
        else:
            graph, result = recorded
            graph.launch()
            self.replayed += 1
        for packer in waiting:
            packer.launched()
        return result

    def close(self) -> None:
        """Give everything back; the Device must still be open."""
        self._waiting.clear()
        self._tidy()
        self._drop_graphs()
        if self._batch is not None:
            self._device.release(self._batch)
            self._batch = None

    def _fit(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        batch = self._batch
        if (
            batch is not None
            and batch.shape[1:] == shape[1:]
            and batch.dtype == dtype
            and len(batch) >= shape[0] + self.spare
        ):
            return
        if batch is not None:
            self._drop_graphs()  # they hold its address
            self._device.release(batch)
        self._batch = self._device.empty((max(self._room, shape[0]) + self.spare, *shape[1:]), dtype)

    def _graph(self, key: Hashable, work: Callable[[], T]) -> tuple[Graph, T] | None:
        known = self._graphs.get(key)
        if known is not None:
            self._graphs.move_to_end(key)
            return known
        if key not in self._met:
            if len(self._met) > 4096:
                self._met.clear()
            self._met.add(key)
            return None
        try:
            with self._device.capture() as graph:
                result = work()
        except StartupError as error:
            self._enabled = False
            _LOG.warning("frames go to the GPU piece by piece, not as recorded graphs: %s", error)
            return None
        self.recorded += 1
        self._graphs[key] = graph, result
        if len(self._graphs) > _GRAPHS_KEPT:
            _, (oldest, _) = self._graphs.popitem(last=False)
            self._device.forget(oldest)
        return graph, result

    def _drop_graphs(self) -> None:
        for graph, _ in self._graphs.values():
            self._device.forget(graph)
        self._graphs.clear()
        self._met.clear()
