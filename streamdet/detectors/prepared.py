"""The file a GPU runs: the user's model with a free batch and in the precision asked for. Made once, kept beside the plans.

TensorRT takes its precision from the file, so fp16 is a converted copy and int8 a calibrated one. The copies are ordinary ONNX
files: any runtime can be asked what they find (`streamdet.precision` does, on the CPU).
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.config import Precision
from streamdet.detectors.onnx_bytes import without_weight_inputs
from streamdet.detectors.sniff import extra_inputs, input_shape, probe_wh
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.errors import DependencyError, ModelError

__all__ = ["content_hash", "model_bytes", "prepared"]

_LOG = logging.getLogger(__name__)
_EDITION = 1  # of the conversions: a higher number makes old copies stale


def content_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def model_bytes(file: ModelFile) -> bytes:
    """What a compiler is given. Raises ModelError for weights kept in other files."""
    return without_weight_inputs(file.path) or file.path.read_bytes()


def prepared(
    file: ModelFile, *, precision: Precision, folder: Path, tiles: Iterator[NDArray[Any]] | None = None
) -> ModelFile:
    """`file` with a free batch, if that can be had, in `precision`; what its manifest says stays true.

    `tiles`: batches of network input to calibrate int8 on; without them a copy calibrated before is used. A file that is in
    half precision or quantized already is left as it is. Raises ModelError (no calibration, or the conversion failed) and
    DependencyError (`onnx` is missing).
    """
    fixed = precision != "fp32" and _has_its_own(file)
    if fixed:
        _LOG.info("%s brings its own precision; %s is not applied", file.path.name, precision)
    batch = input_shape(file)[0]
    wanted = "fp32" if fixed else precision
    if wanted == "fp32" and batch is None:
        return file
    target = folder / f"{file.path.stem}-{content_hash(file.path)[:12]}-{wanted}-{_EDITION}.onnx"
    if tiles is None and target.is_file():
        return _like(file, target)
    if wanted == "int8" and tiles is None:
        raise ModelError(
            f"int8 for {file.path.name} has to be calibrated once on clips like yours; "
            f"run `streamdet build {file.path} --precision int8 --calibrate CLIP`"
        )
    try:
        return _make(file, target, wanted, tiles)
    except ImportError:
        raise DependencyError(
            "the package onnx is missing, which converts models for the GPU; run `pip install onnx`"
        ) from None
    except OSError as error:
        raise ModelError(
            f"the {wanted} copy of {file.path.name} cannot be written to {folder} ({error.strerror}); "
            "set gpu.plans to another folder"
        ) from None


def _make(file: ModelFile, target: Path, precision: Precision, tiles: Iterator[NDArray[Any]] | None) -> ModelFile:
    from streamdet.detectors.onnxruntime_batch import free_batch

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        source, free = file, Path(scratch) / "free.onnx"
        if input_shape(file)[0] == 1:
            _LOG.info("freeing the batch of %s", file.path.name)
            if free_batch(file, free):
                source = _like(file, free)
        copy = Path(scratch) / target.name
        try:
            if precision == "fp16":
                from streamdet.detectors.onnxruntime_half import to_half

                to_half(source.path, copy, half_input=source.picture.dtype == "float32")
            elif precision == "int8":
                from streamdet.detectors.onnxruntime_int8 import to_int8

                beside = extra_inputs(file.extra, probe_wh(file), 1)
                to_int8(source.path, copy, _singly(tiles), dialect="tensorrt", beside=beside)
            elif source is file:
                return file
            else:
                copy = source.path
        except OSError:
            raise
        except Exception as error:  # the converters share no base class
            said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ModelError(
                f"{file.path.name} cannot be converted to {precision}: {said[:200]}; use --set gpu.precision=fp32"
            ) from None
        copy.replace(target)
    return _like(file, target)


def _singly(tiles: Iterator[NDArray[Any]] | None) -> Iterator[NDArray[Any]]:
    """One tile at a time: every file takes that, and calibration keeps all activations of a batch in memory."""
    for batch in tiles or ():
        for tile in batch:
            yield np.ascontiguousarray(tile[None])


def _has_its_own(file: ModelFile) -> bool:
    """Whether the file is in half precision or quantized. Names of operators are looked for in its bytes: cheap, no package."""
    return file.picture.dtype == "float16" or b"QuantizeLinear" in file.path.read_bytes()


def _like(file: ModelFile, path: Path) -> ModelFile:
    return replace(read_model(path), said=file.said, task=file.task)
