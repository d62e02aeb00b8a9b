"""``streamdet widen``: an RGB detector that also sees motion, with the answers it had, ready to be trained further."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.config import ModelConfig
from streamdet.detectors.network import open_detector
from streamdet.detectors.sniff import ModelSpec, probe_wh
from streamdet.errors import DependencyError, ModelError, OutputError, UsageError
from streamdet.inputspec import DIFFERENCES, Channel

__all__ = ["Widened", "extra_channels", "widen"]

TOLERANCE = 1e-5  # of the output's own size, from 1 on
_OWN = ("rgb", "bgr", "colour", "color")
_SHORT = {"background": ("background_difference",), "previous": ("previous_difference",)}


@dataclass(frozen=True, slots=True)
class Widened:
    """What was made. ``layers``: convolutions that take more channels, or (``apart``) that got one beside them.

    ``difference``: the largest one between outputs before and after, relative where above 1.
    """

    path: Path
    manifest: Path
    channels: tuple[str, ...]
    layers: tuple[str, ...]
    apart: bool
    difference: float


def extra_channels(text: str) -> tuple[str, ...]:
    """``rgb+difference+background`` -> the names of the channels beside the network's own. Raises UsageError.

    ``background`` is short for background_difference, ``previous`` for previous_difference, ``rgb[-1]`` for the three
    colours of the frame before. ``rgb`` (first, may be left out) stands for the network's own channels in its own order.
    """
    words = [word.strip() for word in text.split("+") if word.strip()]
    words = words[1:] if words and words[0].lower() in _OWN else words
    names: list[str] = []
    for word in words:
        if word.startswith("rgb["):
            names += [f"{colour}{word[3:]}" for colour in "rgb"]
        else:
            names += _SHORT.get(word, (word,))
    try:
        for name in names:
            Channel.parse(name)
    except ModelError as error:
        raise UsageError(f"--channels {text}: {error}") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        what = f"{twice[0]} is named twice" if twice else "nothing is added"
        raise UsageError(
            f"--channels {text}: {what}; use e.g. rgb+difference+background ({', '.join(DIFFERENCES)}, y[-1])"
        )
    return tuple(names)


def widen(model: str | os.PathLike[str], channels: str, *, out: str | os.PathLike[str] | None = None) -> Widened:
    """Write `model` with the channels of `channels` added, and the manifest that makes `streamdet run` feed it right.

    The result is checked: on random pictures with random extra channels it must answer as before. Raises UsageError,
    ModelError (quantised, no convolution in reach, not a detector we can read), DependencyError, OutputError.
    """
    try:
        import onnx

        from streamdet.tuning.graph import widen_graph
    except ImportError:
        raise DependencyError("widening needs onnx, which is not installed; `pip install 'streamdet[tune]'`") from None
    names = extra_channels(channels)
    source = Path(model)
    if not source.is_file():
        raise ModelError(f"the model file {model} does not exist; give the path of an .onnx file")
    target = Path(out) if out is not None else source.with_name(f"{source.stem}_wide.onnx")
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"--out {target}: give a name that ends in .onnx")
    if target.exists() and target.samefile(source):
        raise UsageError(f"--out {target} is the model itself; give another name")
    with open_detector(ModelConfig(name=str(source), backend="onnxruntime"), source) as detector:
        spec = detector.spec
    _check(spec, names)
    said = _manifest(spec, names)
    for apart in (False, True):  # apart: exact, at the price of one more (small) convolution
        graph = onnx.load(str(source))
        layers = widen_graph(
            graph,
            picture=spec.file.picture.name,
            colours=len(spec.input.channels),
            extra=len(names),
            nhwc=spec.file.nhwc,
            apart=apart,
        )
        _describe(graph, said)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(graph, str(target))
            target.with_suffix(".toml").write_text(_toml(said, source, names), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror}; choose another path") from None
        try:
            difference = _proven(source, target, spec, len(names))
        except ModelError:
            target.unlink()
            target.with_suffix(".toml").unlink()
            raise
        if difference <= TOLERANCE:
            return Widened(
                target, target.with_suffix(".toml"), tuple(said["channels"]), tuple(layers), apart, difference
            )
    raise ModelError(f"the widened model {target} answers otherwise than {source} (by {difference:.2g}): do not use it")


def _describe(graph: Any, said: dict[str, Any]) -> None:
    """Put the channels into the file too: one that is moved without its manifest still says what it wants."""
    kept = [
        prop
        for prop in graph.metadata_props
        if prop.key not in ("streamdet.channels", "streamdet.mean", "streamdet.std")
    ]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    for key in ("channels", "mean", "std"):
        graph.metadata_props.add(key=f"streamdet.{key}", value=json.dumps(said[key]))


def _check(spec: ModelSpec, names: tuple[str, ...]) -> None:
    path = spec.file.path
    if spec.input.dtype == "uint8":
        raise ModelError(
            f"the model {path} takes uint8 pictures, which cannot hold signed differences; export it with a float32 input"
        )
    twice = sorted(set(names) & set(spec.input.channels))
    if twice:
        raise ModelError(f"the model {path} has the channel {twice[0]} already; leave it out of --channels")


def _manifest(spec: ModelSpec, names: tuple[str, ...]) -> dict[str, Any]:
    """Everything that was sniffed, said aloud: habits of a family are about three colours and no longer apply."""
    fed = spec.input
    own = len(fed.channels)
    values = {
        name: [*(values if len(values) == own else values * own)]
        for name, values in (("mean", fed.mean), ("std", fed.std))
    }
    colours = [not Channel.parse(name).signed for name in names]
    # differences are as strong beside these colours as beside our own network's, whose colours are 0..1
    strength = 1.0 if any(channel.signed for channel in fed.parsed) else 255 / values["std"][0]
    said: dict[str, Any] = {
        "decoder": spec.family.name,
        "labels": list(spec.labels),
        "threshold": spec.threshold,
        "channels": [*fed.channels, *names],
        # earlier frames are scaled as the first colour is; differences have no mean
        "mean": [*values["mean"], *(values["mean"][0] if colour else 0.0 for colour in colours)],
        "std": [*values["std"], *(values["std"][0] if colour else 1.0 for colour in colours)],
        "pad": fed.pad_value,
        "resize": "stretch" if fed.stretch else "letterbox",
        "stride": fed.stride,
        "signed_scale": round(fed.signed_scale / strength, 4),
        "signed_clip": round(fed.signed_clip * strength, 4),
    }
    layout = (
        "input",
        "strides",
        "activation",
        "decoded",
        "box_format",
        "box_unit",
        "first_label",
        "size_unit",
        "frame",
        "box_px",
    )
    given = {key: getattr(spec.file.said, key) for key in layout}
    about = {key: getattr(spec.file.said, key) for key in ("name", "about", "origin", "licence")}
    return said | {key: value for key, value in {**given, **about}.items() if value is not None}


def _toml(said: dict[str, Any], source: Path, names: tuple[str, ...]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {text(v)}" for k, v in value.items()) + " }"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(map(text, value)) + "]"
        return json.dumps(value, ensure_ascii=False)

    lines = [f"# {source.name}, widened by `streamdet widen`: {', '.join(names)} added with weights of zero"]
    lines += [f"{key} = {text(value)}" for key, value in said.items()]
    summary = f"{source.stem} with {', '.join(names)} beside its colours; answers as {source.stem} until it is trained further"
    return "\n".join([*lines, "", "[card]", f"summary = {text(summary)}"]) + "\n"


def _proven(source: Path, target: Path, spec: ModelSpec, extra: int) -> float:
    """Run both on the same random colours, the wide one with random extra channels. Raises ModelError if answers differ."""
    with open_detector(ModelConfig(name=str(target), backend="onnxruntime"), target) as wide:
        fed = wide.spec.input
    if fed.channels[: len(spec.input.channels)] != spec.input.channels:
        raise ModelError(
            f"the widened model {target} is read otherwise than {source}: report this with the model's name"
        )
    worst = 0.0
    rng = np.random.default_rng(0)
    for level in (1.0, 255.0):
        colours, more = _pictures(spec, rng, extra, level)
        before = _answers(source, colours)
        after = _answers(target, np.concatenate([colours, more], axis=3 if spec.file.nhwc else 1))
        worst = max([worst, *(_difference(before[name], after[name]) for name in before)])
    return worst


def _pictures(spec: ModelSpec, rng: np.random.Generator, extra: int, level: float) -> tuple[NDArray[Any], NDArray[Any]]:
    width, height = probe_wh(spec.file)
    batch, channels = spec.input.batch or 1, len(spec.input.channels)
    shape = (batch, height, width)
    dtype = np.dtype(spec.input.dtype)
    colours = rng.random((*shape, channels), np.float32) * level
    more = rng.normal(0, 1, (*shape, extra)).clip(-2, 2)
    pair = (colours.astype(dtype), more.astype(dtype))
    if spec.file.nhwc:
        return pair
    return pair[0].transpose(0, 3, 1, 2).copy(), pair[1].transpose(0, 3, 1, 2).copy()


def _answers(path: Path, data: NDArray[Any]) -> dict[str, NDArray[Any]]:
    from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend
    from streamdet.detectors.spec import read_model

    with OnnxRuntimeBackend(read_model(path), threads=1) as backend:
        return {name: np.array(value) for _, _, raw in backend.infer(data) for name, value in raw.items()}


def _difference(before: NDArray[Any], after: NDArray[Any]) -> float:
    """The largest one, relative to numbers above 1; infinite where shapes differ."""
    if before.shape != after.shape:
        return float("inf")
    if not before.size:
        return 0.0
    a, b = before.astype(np.float64), after.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    gap = np.where(same, 0.0, np.abs(a - b) / np.maximum(1.0, np.abs(a)))
    return float(gap.max())
