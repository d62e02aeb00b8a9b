"""``streamdet build``: compile a model for this GPU, ahead of the first run, and say what the faster copy finds."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamdet.errors import EXIT_DONE, OutputError, StartupError, UsageError
from streamdet.options import Help

if TYPE_CHECKING:
    from streamdet.config import Config
    from streamdet.detectors.network import NetworkDetector
    from streamdet.detectors.spec import ModelFile
    from streamdet.libcuda import Gpu
    from streamdet.types import TileBatch

__all__ = ["add"]

_COMPARED_TILES = 300


def add(commands: Any) -> None:
    text = "compile a model for this GPU with TensorRT, ahead of the first run"
    about = (
        f"{text}. The plan is kept and found by `streamdet run --device cuda`. With TensorRT-RTX no GPU is needed to build. "
        "JSON on standard output."
    )
    sub = commands.add_parser("build", help=text, description=about, formatter_class=Help)
    sub.add_argument("model", metavar="MODEL", help="one of `streamdet models` or an .onnx file")
    sub.add_argument("--precision", choices=("fp16", "fp32", "int8"), help="of the arithmetic (default fp16)")
    sub.add_argument(
        "--calibrate",
        nargs="+",
        metavar="CLIP",
        help="clips like yours: int8 is calibrated on them, any copy compared on them",
    )
    sub.add_argument("--tiles", type=int, metavar="N", help="tiles in one run at most (default 32)")
    sub.add_argument("--size", metavar="WxH", help="input px, for files that leave it free")
    sub.add_argument("--runtime", choices=("tensorrt", "tensorrt-rtx"), help="default: whichever is installed")
    sub.add_argument("--device", default="cuda:0", metavar="cuda:N", help="the GPU to compile for")
    sub.add_argument("--out", metavar="FILE", help="also write the plan there")
    sub.add_argument("--config", metavar="FILE.yaml", help="configuration file; its `gpu` and `tiles` are used")
    sub.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any setting by its path")
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from streamdet.assemble import find_model
    from streamdet.detectors.spec import read_model
    from streamdet.report import write_json

    config = _config(arguments)
    path = find_model(arguments.model)
    if path is None:
        raise UsageError("`motion` has no network to compile; name a model, for example `streamdet build tiny`")
    record = _build(read_model(path), config, arguments)
    write_json("-", record)
    return EXIT_DONE


def _config(arguments: argparse.Namespace) -> Config:
    from streamdet.config import Config, load, with_values
    from streamdet.options import assignment

    values: dict[str, Any] = {}
    if arguments.precision:
        values["gpu.precision"] = arguments.precision
    if arguments.tiles is not None:
        values["gpu.batch"] = arguments.tiles
    base = load(arguments.config) if arguments.config else Config()
    return with_values(base, {**values, **dict(assignment(text) for text in arguments.set)})


def _build(file: ModelFile, config: Config, arguments: argparse.Namespace) -> dict[str, Any]:
    from streamdet.assemble import engines_folder
    from streamdet.detectors.prepared import prepared
    from streamdet.detectors.sniff import probe_wh
    from streamdet.detectors.tensorrt_build import profile_of
    from streamdet.detectors.tensorrt_compile import compiled
    from streamdet.detectors.tensorrt_import import import_trt
    from streamdet.detectors.tensorrt_plans import PlanCache, plan_folder

    flavour, gpu = _target(arguments)
    trt = import_trt(flavour)
    cache = PlanCache(plan_folder(config.gpu.plans, engines_folder()))
    with _reference(file) as model:
        spec = model.input
        wh = _size(arguments.size) or spec.wh or probe_wh(file)
        tiles = None
        if arguments.calibrate and config.gpu.precision == "int8":
            from streamdet.precision import calibration_tiles

            tiles = calibration_tiles(arguments.calibrate, spec, config)
        copy = prepared(file, precision=config.gpu.precision, folder=cache.folder, tiles=tiles)
        profile = profile_of(copy, tiles=config.gpu.batch, wh=wh, channels=len(spec.channels))
        plan, key = compiled(trt, copy, profile, name=file.path.name, cache=cache, config=config.gpu, gpu=gpu)
        record: dict[str, Any] = {
            "model": str(file.path),
            "precision": config.gpu.precision,
            "runtime": trt.about,
            "gpu": key.gpu,
            "tiles": [profile.least, profile.most],
            "input_wh": list(wh),
            "bytes": len(plan),
            "plan": str(cache.path(copy.path.stem, key)),
        }
        if arguments.calibrate and copy.path != file.path:
            record["agreement"] = _compare(model, copy, arguments.calibrate, config)
    if arguments.out:
        record["out"] = _write(arguments.out, plan)
    return record


def _target(arguments: argparse.Namespace) -> tuple[str | None, Gpu | None]:
    """Which TensorRT, and the GPU it compiles for. Raises StartupError where that one needs a GPU and there is none."""
    from streamdet.detectors.tensorrt_import import installed
    from streamdet.libcuda import NoGpu, device_index, probe

    asked = arguments.runtime.replace("-", "_") if arguments.runtime else None
    found = probe(device_index(arguments.device))
    if not isinstance(found, NoGpu):
        return asked, found
    flavours = installed()
    if asked != "tensorrt" and "tensorrt_rtx" in flavours:
        return "tensorrt_rtx", None
    if "tensorrt" in flavours and asked != "tensorrt_rtx":
        raise StartupError(
            f"TensorRT compiles on the GPU it compiles for, and {found.reason}; run this on the machine with the GPU"
        )
    return asked, None


def _reference(file: ModelFile) -> NetworkDetector:
    """The user's own file on the CPU: it says what the network wants to be fed, and what it finds is the measure."""
    from streamdet.config import ModelConfig
    from streamdet.detectors.network import NetworkDetector

    return NetworkDetector(ModelConfig(backend="onnxruntime", device="cpu"), file)


def _compare(model: NetworkDetector, copy: ModelFile, clips: list[str], config: Config) -> dict[str, Any]:
    from streamdet.precision import agreement, packed

    with _reference(copy) as other:
        batches = packed(clips, model.input, config, every=6, frames=600, tiles=64)
        said = agreement(model, other, _up_to(_COMPARED_TILES, batches), config)
    sys.stderr.write(f"{config.gpu.precision} against the model itself: {said.text}\n")
    return said.to_dict()


def _up_to(tiles: int, batches: Iterator[TileBatch]) -> Iterator[TileBatch]:
    for batch in batches:
        yield batch
        tiles -= len(batch.tiles)
        if tiles <= 0:
            return


def _write(target: str, plan: bytes) -> str:
    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f"{path.name}.tmp")
        scratch.write_bytes(plan)
        scratch.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another path") from None
    return str(path)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--size {text}: give px as WxH, for example 640x384")
    return int(width), int(height)
