"""Which runtime runs a network fastest here, and with which arithmetic: a few tiles on each, in turn."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.backend import Backend, first_answer
from streamdet.detectors.decode.layout import Raw
from streamdet.detectors.openvino_backend import arithmetic_here
from streamdet.detectors.rounding import fed, why_not_rounded
from streamdet.detectors.runtimes import Choice, Name, make_backend
from streamdet.detectors.sniff import noise, probe_wh, sniff
from streamdet.detectors.spec import ModelFile
from streamdet.errors import StreamdetError

__all__ = ["arithmetic_only", "measure"]

_LOG = logging.getLogger(__name__)
_ROUNDS = 4
_OURS = 0.7  # below this share of the cores the machine is busy with something else
_TILES_PER_THREAD = 2
_TOLERANCE = 1e-2  # of the output's own range: beyond it the runtimes do not agree and the first is trusted


def measure(file: ModelFile, threads: int, *, exact: bool = False) -> dict[str, Any]:
    """Run a few tiles on both runtimes, in turn: {"backend", "arithmetic", "model", "ms_per_tile": {...}, "why"}.

    "arithmetic" is OpenVINO's, be it the faster one or not; `exact`: fp32. "rounding": why it is not bf16.
    """
    record: dict[str, Any] = {"model": file.path.name, "backend": "onnxruntime", "arithmetic": "fp32"}
    with contextlib.ExitStack() as stack:
        try:
            known = stack.enter_context(make_backend(Choice("onnxruntime"), file, threads))
            answer = first_answer(known, noise(file))
            other, said = _openvino(file, threads, known, answer, exact, stack)
            record |= said
            if record["arithmetic"] == "fp32" and (why := _other_answers(file, answer, known, other)):
                return record | {"why": f"openvino gives other numbers: {why}"}
            spent = _race(file, threads, answer, {"onnxruntime": known, "openvino": other})
        except StreamdetError as error:
            return _only_one_runs(file, threads, record, error)
    # where others use the cores too, wall time says more about them than about the runtimes: compare processor time
    busy = all(cpu < _OURS * wall * threads for wall, cpu in spent.values())
    ms = {name: round((cpu / threads if busy else wall) * 1e3, 3) for name, (wall, cpu) in spent.items()}
    faster: Name = "openvino" if ms["openvino"] < ms["onnxruntime"] else "onnxruntime"
    return record | {"backend": faster, "ms_per_tile": ms, "why": "less processor time" if busy else "faster"}


def arithmetic_only(file: ModelFile, threads: int) -> dict[str, Any]:
    """{"arithmetic", "rounding"} for OpenVINO, where it is asked for; onnxruntime is what it is compared with."""
    with contextlib.ExitStack() as stack:
        try:
            known = stack.enter_context(make_backend(Choice("onnxruntime"), file, threads))
            return _openvino(file, threads, known, first_answer(known, noise(file)), False, stack)[1]
        except StreamdetError as error:
            return {"arithmetic": "fp32", "rounding": f"there is nothing to compare with: {error}"}


def _openvino(
    file: ModelFile, threads: int, known: Backend, answer: Raw, exact: bool, stack: contextlib.ExitStack
) -> tuple[Backend, dict[str, Any]]:
    """OpenVINO, entered, in the fastest arithmetic the network bears, and what is to be remembered of that."""
    why = None
    if not exact and arithmetic_here() == "bf16":
        rounded = stack.enter_context(make_backend(Choice("openvino", "bf16"), file, threads))
        try:
            why = why_not_rounded(sniff(file, answer), known, rounded)
        except StreamdetError as error:
            why = str(error)
        if not why:
            return rounded, {"arithmetic": "bf16"}
        _LOG.debug("%s is run in fp32, not in bf16: %s", file.path.name, why)
    precise = stack.enter_context(make_backend(Choice("openvino"), file, threads))
    return precise, {"arithmetic": "fp32"} | ({"rounding": why} if why else {})


def _race(file: ModelFile, threads: int, answer: Raw, backends: dict[Name, Backend]) -> dict[Name, tuple[float, float]]:
    """Wall and processor seconds per tile, the best of some rounds, each fed as it likes it best."""
    data = {name: _tiles(file, answer, backend, threads) for name, backend in backends.items()}
    for name, backend in backends.items():
        _time(backend, data[name])
    rounds = [{name: _time(backend, data[name]) for name, backend in backends.items()} for _ in range(_ROUNDS)]
    return {
        name: (min(one[name][0] for one in rounds) / len(array), min(one[name][1] for one in rounds) / len(array))
        for name, array in data.items()
    }


def _tiles(file: ModelFile, answer: Raw, backend: Backend, threads: int) -> NDArray[Any]:
    count = _TILES_PER_THREAD * threads
    try:
        spec = backend.wants(sniff(file, answer).input)
    except StreamdetError:  # nobody can read its answers, which is told later
        return np.repeat(noise(file), count, axis=0)
    return np.repeat(fed(spec, probe_wh(file), 0), count, axis=0)


def _only_one_runs(file: ModelFile, threads: int, record: dict[str, Any], error: StreamdetError) -> dict[str, Any]:
    try:
        with make_backend(Choice("onnxruntime"), file, threads) as backend:
            first_answer(backend, noise(file))
    except StreamdetError as first:
        try:
            with make_backend(Choice("openvino"), file, threads) as backend:
                first_answer(backend, noise(file))
        except StreamdetError:
            raise first from None
        return record | {"backend": "openvino", "arithmetic": "fp32", "why": f"onnxruntime: {first}"}
    return record | {"why": f"openvino: {error}"}


def _other_answers(file: ModelFile, answer: Raw, known: Backend, other: Backend) -> str:
    """Whether `other` says something else than `known`, in words: other numbers, and other rows (8 bits round apart)."""
    if _agree(answer, first_answer(other, noise(file))):
        return ""
    try:
        return why_not_rounded(sniff(file, answer), known, other)
    except StreamdetError as error:
        return str(error)


def _agree(one: Raw, other: Raw) -> bool:
    """Ranked outputs (the best 300 of all) may swap rows on noise: their spread is compared, not their order."""
    for name, a in one.items():
        b = other.get(name)
        if b is None or a.dtype.kind != b.dtype.kind:
            return False
        if a.dtype.kind != "f" or a.size == 0 or b.size == 0:
            continue
        x, y = np.sort(a.ravel().astype(np.float64)), np.sort(b.ravel().astype(np.float64))
        if x.shape != y.shape:
            continue  # a varying number of rows: nothing to compare
        spread = float(np.ptp(x[np.isfinite(x)])) if np.isfinite(x).any() else 0.0
        if not np.allclose(x, y, rtol=0, atol=_TOLERANCE * max(spread, 1e-6), equal_nan=True):
            return False
    return True


def _time(backend: Backend, data: NDArray[Any]) -> tuple[float, float]:
    """Wall and processor seconds of one pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in backend.infer(data):
        pass
    return time.perf_counter() - wall, time.process_time() - cpu
