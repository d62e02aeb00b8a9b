"""An ONNX file becomes a TensorRT plan: parse, one profile from 1 to T tiles, build, serialise; or one sentence why not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamdet.detectors.sniff import extra_inputs, input_shape
from streamdet.detectors.spec import ModelFile
from streamdet.detectors.tensorrt_import import TensorRt, logger_of
from streamdet.errors import ModelError

__all__ = ["Built", "Profile", "build_plan", "profile_of"]

_LOG = logging.getLogger(__name__)
_HINTS = (
    ("out of memory", "free GPU memory or lower gpu.batch"),
    ("outofmemory", "free GPU memory or lower gpu.batch"),
    ("INT32", "quantize it anew with `streamdet build --precision int8 --calibrate CLIP`"),
)
Told = Callable[[float, str], None]
"""Share done (0..1) and the phase, from a thread of TensorRT's."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes a plan takes: `least` to `most` tiles, tuned for `most`. ``inputs``: name -> shape of one tile (batch left out)."""

    least: int
    most: int
    inputs: tuple[tuple[str, tuple[int, ...]], ...]

    def shape(self, name: str, tiles: int) -> tuple[int, ...]:
        return (tiles, *dict(self.inputs)[name])

    @property
    def text(self) -> str:
        parts = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in self.inputs)
        return f"{self.least}-{self.most} {parts}"


@dataclass(frozen=True, slots=True)
class Built:
    plan: bytes
    timing_cache: bytes | None
    seconds: float


def profile_of(file: ModelFile, *, tiles: int, wh: tuple[int, int], channels: int) -> Profile:
    """The profile of `file` for 1 to `tiles` tiles of `wh` px; a file with a fixed batch takes just that."""
    batch = input_shape(file)[0]
    one = (wh[1], wh[0], channels) if file.nhwc else (channels, wh[1], wh[0])
    beside = extra_inputs(file.extra, wh, 1)
    inputs = ((file.picture.name, one), *((name, value.shape[1:]) for name, value in beside.items()))
    return Profile(batch or 1, batch or tiles, inputs)


def build_plan(
    trt: TensorRt,
    onnx_file: bytes,
    profile: Profile,
    *,
    name: str,
    workspace_mib: int = 2048,
    timing_cache: bytes | None = None,
    told: Told | None = None,
) -> Built:
    """Compile. Raises ModelError with TensorRT's own reason. `name`: of the model, for that sentence."""
    started_s = time.perf_counter()
    logger = logger_of(trt)
    logger.errors.clear()
    builder = trt.module.Builder(logger)
    network = builder.create_network(1 << int(trt.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.module.OnnxParser(network, logger)
    if not parser.parse(onnx_file):
        raise _refused(trt, name, _parser_errors(parser) or list(logger.errors))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.module.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    if not _add_profile(builder, config, network, profile):
        raise _refused(trt, name, [f"the shapes {profile.text} do not fit its inputs", *logger.errors])
    cache = None if trt.rtx else _timing_cache(config, timing_cache)  # RTX measures nothing when it builds
    monitor = _monitor(trt, told) if told is not None else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.stopped:
        raise KeyboardInterrupt
    if plan is None:
        raise _refused(trt, name, list(logger.errors) or ["it gave no reason"])
    kept = bytes(cache.serialize()) if cache is not None else None
    return Built(bytes(plan), kept, time.perf_counter() - started_s)


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile) -> bool:
    known = dict(profile.inputs)
    shapes = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        port = network.get_input(number)
        if port.name not in known:
            return False
        least, most = profile.shape(port.name, profile.least), profile.shape(port.name, profile.most)
        if port.is_shape_tensor:
            return False
        if -1 in tuple(port.shape):
            shapes.set_shape(port.name, least, most, most)
    return bool(config.add_optimization_profile(shapes) >= 0)


def _timing_cache(config: Any, kept: bytes | None) -> Any:
    """What earlier builds measured on this GPU; a cache of another version is refused by TensorRT and begun anew."""
    for content in (kept, b""):
        if content is None:
            continue
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _parser_errors(parser: Any) -> list[str]:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    return [
        f"{error.desc()} (node {error.node_name() if hasattr(error, 'node_name') else error.node()})"
        for error in errors
    ]


def _refused(trt: TensorRt, name: str, reasons: list[str]) -> ModelError:
    said = " ".join(" ".join(reasons[:1]).split())
    remedy = next((hint for word, hint in _HINTS if word.lower() in said.lower()), "use --backend onnxruntime")
    return ModelError(f"{trt.about} cannot compile the model {name}: {said[:300]}; {remedy}")


def _monitor(trt: TensorRt, told: Told) -> Any:
    """Progress of a build, where this TensorRT tells it; None where it does not."""
    base = getattr(trt.module, "IProgressMonitor", None)
    if base is None:
        return None

    class Monitor(base):  # type: ignore[misc,valid-type]  # the base comes with the import
        """Phases are nested; the outermost one's steps make the share, those of its children fill a step."""

        def __init__(self) -> None:
            super().__init__()
            self.stopped = False
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, done

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (parent_phase, max(num_steps, 1), 0)
            self._tell(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            parent = self._phases.pop(phase_name, (None, 1, 0))[0]
            if parent is None and not self._phases:
                self._say(1.0, phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._phases:
                parent, steps, _ = self._phases[phase_name]
                self._phases[phase_name] = (parent, steps, min(step + 1, steps))
                self._tell(phase_name)
            return not self.stopped

        def _tell(self, name: str) -> None:
            share, at = 0.0, name
            while at in self._phases:
                parent, steps, done = self._phases[at]
                share = min(1.0, (done + share) / steps)
                if parent is None:
                    break
                at = parent
            self._say(share, name)

        def _say(self, share: float, name: str) -> None:
            try:
                told(share, name)
            except BaseException:  # an exception must not travel through TensorRT's threads: stop the build instead
                self.stopped = True

    return Monitor()
