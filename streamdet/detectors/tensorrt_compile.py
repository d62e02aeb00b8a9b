"""From a prepared model file to a plan: out of the cache, or compiled now with a message and progress."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from typing import Any, Self

from streamdet.config import GpuConfig
from streamdet.detectors.prepared import model_bytes
from streamdet.detectors.spec import ModelFile
from streamdet.detectors.tensorrt_build import Profile, build_plan
from streamdet.detectors.tensorrt_import import TensorRt
from streamdet.detectors.tensorrt_plans import Key, PlanCache
from streamdet.libcuda import Gpu

__all__ = ["compiled", "key_of"]

_LOG = logging.getLogger(__name__)


def key_of(trt: TensorRt, onnx_file: bytes, profile: Profile, *, precision: str, gpu: Gpu | None) -> Key:
    """A plan of TensorRT-RTX is for any GPU: the one that runs it finishes it."""
    gpu = None if trt.rtx else gpu
    return Key(
        model=hashlib.sha256(onnx_file).hexdigest(),
        runtime=f"{trt.flavour} {trt.version}",
        gpu=gpu.name if gpu else "any",
        capability="{}.{}".format(*gpu.capability) if gpu else "any",
        driver=gpu.driver if gpu else "any",
        precision=precision,
        profile=profile.text,
    )


def compiled(
    trt: TensorRt,
    file: ModelFile,
    profile: Profile,
    *,
    name: str,
    cache: PlanCache,
    config: GpuConfig,
    gpu: Gpu | None,
    anew: bool = False,
) -> tuple[bytes, Key]:
    """The plan for `file` (already prepared; `name` is what its user calls it) and its key. Raises ModelError.

    `anew`: do not believe the one on disk.
    """
    onnx_file = model_bytes(file)
    key = key_of(trt, onnx_file, profile, precision=config.precision, gpu=gpu)
    if anew:
        cache.discard(file.path.stem, key, f"{trt.about} does not take it")
    timing = hashlib.sha256(f"{key.runtime} {key.gpu} {key.capability} {key.driver}".encode()).hexdigest()[:16]

    def build() -> bytes:
        where = f"for {gpu.name} " if gpu else ""
        patience = "" if trt.rtx else "; this takes from seconds to some minutes, once"
        _LOG.warning(
            "compiling %s %swith %s (%s, %d to %d tiles)%s",
            name, where, trt.about, config.precision, profile.least, profile.most, patience,
        )  # fmt: skip
        with _Bar(name) as bar:
            built = build_plan(
                trt,
                onnx_file,
                profile,
                name=name,
                workspace_mib=config.workspace_mib,
                timing_cache=cache.timing_cache(timing),
                told=bar,
            )
        if built.timing_cache:
            cache.keep_timing_cache(timing, built.timing_cache)
        _LOG.info("compiled %s in %.1f s, %.1f MB", name, built.seconds, len(built.plan) / 1e6)
        return built.plan

    return cache.get_or_build(file.path.stem, key, build), key


class _Bar:
    """Progress of a build on a terminal; elsewhere a line of log every ten seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None
        self._told_s = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from tqdm import tqdm

            shape = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
            self._bar = tqdm(total=1.0, desc=f"compiling {self._name}", file=sys.stderr, leave=False, bar_format=shape)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, share: float, phase: str) -> None:
        if self._bar is not None:
            self._bar.update(max(0.0, share - self._bar.n))  # inner phases may look back
        elif time.monotonic() - self._told_s > 10:
            self._told_s = time.monotonic()
            _LOG.info("compiling %s: %.0f %% (%s)", self._name, 100 * share, phase)
