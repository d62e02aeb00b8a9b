"""TensorRT on the GPU's own memory: a plan per tile size, inputs and outputs by address, on our stream.

Only what 10.x, 11.x and TensorRT-RTX share is called (`tensorrt_import`). Everything a run needs is allocated when a tile size is
bound or a number of tiles met for the first time, so what is recorded into a graph allocates nothing. A recorded graph is good
only as long as its execution context is left as it was: each number of tiles, and each place they lie, has a context of its
own; they take turns in one working memory.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from streamdet.config import GpuConfig
from streamdet.detectors.device_backend import DeviceRaw, constants, input_wh_of
from streamdet.detectors.sniff import input_shape
from streamdet.detectors.spec import ModelFile
from streamdet.detectors.tensorrt_build import Profile
from streamdet.detectors.tensorrt_compile import compiled
from streamdet.detectors.tensorrt_import import TensorRt, import_trt, logger_of
from streamdet.detectors.tensorrt_plans import Key, PlanCache
from streamdet.device import Device
from streamdet.errors import ModelError, StartupError
from streamdet.types import DeviceArray

__all__ = ["TensorRtBackend"]

_LOG = logging.getLogger(__name__)
_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_SIZES_KEPT = 4
_CONTEXTS_KEPT = 200


@dataclass(slots=True)
class _Finished:
    """TensorRT-RTX: under which name the kernels it finishes on this GPU are kept, what holds them, and how contexts are made."""

    name: str
    kept: Any
    config: Any


@dataclass(slots=True)
class _Bound:
    """One tile size: its engine, its contexts, and the memory of everything but the picture."""

    profile: Profile
    engine: Any
    contexts: dict[tuple[int, int], Any]  # by tiles and their address
    working: DeviceArray
    outputs: dict[str, DeviceArray]  # for `profile.most` tiles
    beside: dict[str, DeviceArray]
    number: int
    finished: _Finished | None


class TensorRtBackend:
    """`file` is prepared (`detectors.prepared`); `name` is what its user calls it. See `DeviceBackend`."""

    def __init__(self, file: ModelFile, *, name: str, device: Device, config: GpuConfig, cache: PlanCache) -> None:
        self._file = file
        self._name = name
        self._device = device
        self._config = config
        self._cache = cache
        self._trt: TensorRt | None = None
        self._runtime: Any = None
        self._sizes: dict[tuple[int, ...], _Bound] = {}
        self._now: _Bound | None = None
        self._numbers = itertools.count(1)
        batch = input_shape(file)[0]
        self._least, self._most = batch or 1, batch or config.batch

    @property
    def about(self) -> str:
        version = self._trt.about if self._trt else "TensorRT"
        return f"{version} {self._config.precision} on {self._device.gpu.name}"

    @property
    def least(self) -> int:
        return self._least

    @property
    def most(self) -> int:
        return self._most

    @property
    def recordable(self) -> bool:
        return True

    def __enter__(self) -> Self:
        self._trt = import_trt()
        self._runtime = self._trt.module.Runtime(logger_of(self._trt))
        if self._runtime is None:
            raise StartupError(f"{self._trt.about} does not start on {self._device.gpu.name}; see `streamdet info`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        for size in list(self._sizes):
            self._drop(size)
        self._now = self._runtime = None

    def bind(self, shape: tuple[int, ...]) -> int:
        bound = self._sizes.get(shape)
        if bound is None:
            if len(self._sizes) >= _SIZES_KEPT:
                self._device.synchronize()
                self._drop(next(iter(self._sizes)))
            bound = self._sizes[shape] = self._bind(shape)
        if (
            len(bound.contexts) > _CONTEXTS_KEPT
        ):  # pictures came from ever other places; what was recorded goes with them
            self._device.synchronize()
            bound.contexts.clear()
            bound.number = next(self._numbers)
        self._now = bound
        return bound.number

    def run(self, data: DeviceArray) -> DeviceRaw:
        bound = self._now
        assert bound is not None, "bind first"
        tiles = len(data)
        context = bound.contexts.get((tiles, data.pointer))
        if context is None:
            context = bound.contexts[tiles, data.pointer] = self._context(bound, tiles)
            context.set_tensor_address(self._file.picture.name, data.pointer)
        if not context.execute_async_v3(self._device.stream):
            raise self._failed("cannot run the model")
        return {
            name: DeviceArray(array.pointer, (tiles, *array.shape[1:]), array.dtype)
            for name, array in bound.outputs.items()
        }

    # ---------------------------------------------------------------------------------------------------------- binding

    def _bind(self, shape: tuple[int, ...]) -> _Bound:
        wh = input_wh_of(self._file, shape)
        beside = constants(self._device, self._file, wh, self._most)
        inputs = ((self._file.picture.name, shape), *((name, array.shape[1:]) for name, array in beside.items()))
        profile = Profile(self._least, self._most, inputs)
        engine, key = self._engine(profile)
        working = self._device.empty((max(int(engine.device_memory_size_v2), 1),), np.uint8)
        bound = _Bound(profile, engine, {}, working, {}, beside, next(self._numbers), self._finished(engine, key))
        try:
            self._allocate_outputs(bound, self._context(bound, self._most))
        except BaseException:
            self._release(bound)
            raise
        return bound

    def _engine(self, profile: Profile) -> tuple[Any, Key]:
        """The engine of the plan on disk or a new one; a plan TensorRT does not take is compiled once more."""
        assert self._trt is not None
        for anew in (False, True):
            plan, key = compiled(
                self._trt,
                self._file,
                profile,
                name=self._name,
                cache=self._cache,
                config=self._config,
                gpu=self._device.gpu,
                anew=anew,
            )
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return engine, key
        raise self._failed("does not take the plan it has just compiled of the model")

    def _finished(self, engine: Any, key: Key) -> _Finished | None:
        """TensorRT-RTX finishes kernels on the GPU that runs them; they are kept beside the plan for the next start."""
        assert self._trt is not None
        if not self._trt.rtx or not hasattr(engine, "create_runtime_config"):
            return None
        gpu = self._device.gpu
        name = f"{key.short}-{gpu.name.replace(' ', '-')}-{gpu.driver}"
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._strategy)
        kept = config.create_runtime_cache()
        earlier = self._cache.timing_cache(name)
        if earlier is not None and not kept.deserialize(earlier):
            _LOG.info("the finished kernels of %s are of another version and made anew", self._name)
        config.set_runtime_cache(kept)
        return _Finished(name, kept, config)

    @property
    def _strategy(self) -> Any:
        """The working memory of a context is ours to give."""
        assert self._trt is not None
        return self._trt.module.ExecutionContextAllocationStrategy.USER_MANAGED

    def _context(self, bound: _Bound, tiles: int) -> Any:
        """One for so many tiles, made at their first run, which is never recorded."""
        how = bound.finished.config if bound.finished else self._strategy
        context = bound.engine.create_execution_context(how)
        if context is None:
            raise self._failed("has no memory to run the model")
        context.set_device_memory(bound.working.pointer, bound.working.nbytes)
        for name, _ in bound.profile.inputs:
            if not context.set_input_shape(name, bound.profile.shape(name, tiles)):
                raise self._failed(f"does not take {tiles} tiles for the model")
        for name, array in (*bound.beside.items(), *bound.outputs.items()):
            context.set_tensor_address(name, array.pointer)
        return context

    def _allocate_outputs(self, bound: _Bound, context: Any) -> None:
        assert self._trt is not None
        for number in range(bound.engine.num_io_tensors):
            name = bound.engine.get_tensor_name(number)
            if bound.engine.get_tensor_mode(name) != self._trt.module.TensorIOMode.OUTPUT:
                continue
            shape = tuple(int(size) for size in context.get_tensor_shape(name))
            kind = bound.engine.get_tensor_dtype(name).name
            if any(size < 0 for size in shape) or not shape or shape[0] != self._most:
                raise ModelError(
                    f"the output {name} of {self._name} has a size that depends on the picture ({shape}), which TensorRT is not "
                    "used for here; use --backend onnxruntime"
                )
            if kind not in _DTYPES:
                raise ModelError(
                    f"the output {name} of {self._name} is {kind}, which is not read; export it as float32"
                )
            bound.outputs[name] = self._device.empty(shape, _DTYPES[kind])
            context.set_tensor_address(name, bound.outputs[name].pointer)

    def _drop(self, size: tuple[int, ...]) -> None:
        bound = self._sizes.pop(size)
        if bound.finished is not None:
            finished = bound.finished
            with contextlib.suppress(Exception):  # a lost cache costs seconds at the next start
                self._cache.keep_timing_cache(finished.name, bytes(finished.kept.serialize()))
        self._release(bound)

    def _release(self, bound: _Bound) -> None:
        bound.contexts.clear()
        for array in (*bound.outputs.values(), *bound.beside.values(), bound.working):
            self._device.release(array)
        bound.outputs, bound.beside = {}, {}
        bound.engine = None

    def _failed(self, doing: str) -> ModelError:
        assert self._trt is not None
        said = next(iter(logger_of(self._trt).errors), "it gave no reason")
        return ModelError(f"{self._trt.about} {doing} {self._name}: {said[:300]}; use --backend onnxruntime")
