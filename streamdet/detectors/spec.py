"""What is known of a model file before it runs: its own metadata, and the manifest a user may lay beside it.

``<stem>.toml`` beside ``<stem>.onnx`` overrides whatever we would guess. All keys are optional::

    decoder     = "yolox"              # a family of `streamdet.detectors.decode`; the error for unknown layouts lists them
    labels      = ["ball", "person"]   # class names in the order of the network ...
    labels_file = "coco.names"         # ... or a text file beside the manifest, one per line
    threshold   = 0.3                  # score below which nothing is kept, or per class: threshold.ball = 0.3
    input       = [640, 384]           # width, height in px, for files that leave it free
    channels    = ["b", "g", "r"]      # or "rgb", "bgr", "grey"; see `streamdet.inputspec` for motion and earlier frames
    mean        = [0, 0, 0]            # grey levels 0..255: the network gets (value - mean) / std
    std         = [255, 255, 255]
    pad         = 114                  # grey level beside a letterboxed tile
    resize      = "letterbox"          # or "stretch"
    stride      = 32                   # a size we choose must be a multiple of it
    strides     = [8, 16, 32]          # px per cell of each level
    activation  = "none"               # or "sigmoid", "softmax": still to be applied to the scores
    decoded     = true                 # false: boxes are offsets of grid cells (YOLOX)
    box_format  = "xyxy"               # or "yxyx", "cxcywh", "xywh"
    box_unit    = "px"                 # or "relative" (to the input)
    first_label = 0                    # class id of the first label (1 where 0 is the background)
    size_unit   = "log_px"             # of a centre network's size map; or "px", "cells"
    frame       = -1                   # which of several heat maps belongs to the present frame
    box_px      = 16                   # side of the boxes of networks that give points
    signed_scale = 64                  # of the difference channels
    signed_clip = 2
    name, about, origin, licence = ... # text for people; a table [card] is theirs too

The same keys, prefixed ``streamdet.``, are read from the ``metadata_props`` of the ONNX file, values written as JSON (plain
text is taken as it is): that is how our own models describe themselves. Ultralytics' ``names``, ``stride``, ``imgsz``
and ``task`` are understood too. Precedence: manifest, ``streamdet.*``, Ultralytics, the family's habit.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from streamdet.config.known import did_you_mean
from streamdet.detectors.decode.layout import Activation, BoxFormat, BoxUnit, SizeUnit
from streamdet.detectors.onnx_header import Header, Port, read_header
from streamdet.errors import ModelError

__all__ = ["Manifest", "ModelFile", "read_model"]

_PREFIX = "streamdet."
_MOST_LABELS = 100_000


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys as in the module's text; None: not said."""

    decoder: str | None = None
    labels: list[str] | None = None
    labels_file: str | None = None
    threshold: float | dict[str, float] | None = None
    input: tuple[int, int] | None = None
    channels: list[str] | str | None = None
    mean: list[float] | float | None = None
    std: list[float] | float | None = None
    pad: float | None = None
    resize: Literal["letterbox", "stretch"] | None = None
    stride: int | None = None
    strides: list[int] | None = None
    activation: Activation | None = None
    decoded: bool | None = None
    box_format: BoxFormat | None = None
    box_unit: BoxUnit | None = None
    first_label: int | None = None
    size_unit: SizeUnit | None = None
    frame: int | None = None
    box_px: float | None = None
    signed_scale: float | None = None
    signed_clip: float | None = None
    name: str | None = None
    about: str | None = None
    origin: str | None = None
    licence: str | None = None
    card: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file, its ports and what it and its manifest say. ``picture``: the input that takes the tiles.

    ``unbatched``: it takes one picture (C, H, W) at a time, as torchvision exports do; ``picture`` is told with a batch of 1.
    """

    path: Path
    picture: Port
    extra: tuple[Port, ...]
    outputs: tuple[Port, ...]
    said: Manifest
    task: str
    producer: str
    unbatched: bool = False

    @property
    def nhwc(self) -> bool:
        said = self.said.channels
        return is_nhwc(self.picture, named=len(said) if isinstance(said, list) else 0)

    @property
    def seen(self) -> str:
        """The ports in words, for errors."""
        ports = [f"input {port}" for port in (self.picture, *self.extra)] + [f"output {port}" for port in self.outputs]
        return "; ".join(ports)


def read_model(path: str | Path) -> ModelFile:
    """Read header and manifest of the ONNX file at `path`; no runtime is loaded. Raises ModelError."""
    file = Path(path)
    header = read_header(file)
    tree = _from_ultralytics(header.metadata)
    tree |= _from_metadata(header.metadata)
    tree |= (beside := _from_toml(file.with_suffix(".toml")))
    try:
        said = msgspec.convert(tree, Manifest)
    except msgspec.ValidationError as error:
        raise ModelError(_wrong(str(error), file, beside)) from None
    picture, extra, unbatched = _ports(header, file)
    return ModelFile(
        path=file,
        picture=picture,
        extra=extra,
        outputs=header.outputs,
        said=said,
        task=header.metadata.get("task", ""),
        producer=header.producer,
        unbatched=unbatched,
    )


def _wrong(said: str, file: Path, beside: Mapping[str, Any]) -> str:
    """What msgspec said of a manifest, for people: where it stands, and what may stand there."""
    text, _, where = said.partition(" - at `$")
    unknown = text.partition("unknown field `")[2].rstrip("`")
    key = unknown or where.strip("`.")
    place = (
        f"the manifest {file.with_suffix('.toml')}" if key.partition(".")[0] in beside else f"the metadata of {file}"
    )
    if not unknown:
        return f"{place} is wrong{f' at {key}' if key else ''}: {text}"
    close = did_you_mean(unknown, Manifest.__struct_fields__)
    return f"{place} has an unknown key `{unknown}`{close}; `python -m pydoc streamdet.detectors.spec` lists all"


def is_nhwc(port: Port, *, named: int = 0) -> bool:
    """Channels last: a small last size (or as many as are `named`) and a larger (or free) second one."""
    shape = port.shape
    if len(shape) == 4 and named and named in (shape[1], shape[3]) and shape[1] != shape[3]:
        return shape[3] == named
    return len(shape) == 4 and shape[3] in (1, 3, 4) and (shape[1] is None or shape[1] > 4) and shape[2] != shape[3]


def _ports(header: Header, file: Path) -> tuple[Port, tuple[Port, ...], bool]:
    """The picture input, the others, and whether the picture has no batch dimension."""
    pictures = [port for port in header.inputs if len(port.shape) == 4 and "mask" not in port.name]
    single = [port for port in header.inputs if len(port.shape) == 3 and port.shape[0] in (1, 3, 4)]
    if not pictures and len(single) == 1 == len(header.inputs):
        return Port(single[0].name, (1, *single[0].shape), single[0].dtype), (), True
    if len(pictures) != 1:
        ports = "; ".join(str(port) for port in header.inputs)
        found = "no picture input" if not pictures else f"{len(pictures)} picture inputs"
        raise ModelError(
            f"the model {file} has {found} of four dimensions (N, C, H, W), seen: {ports}; export a plain detector"
        )
    return pictures[0], tuple(port for port in header.inputs if port is not pictures[0]), False


def _from_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"the manifest {path} cannot be read: {error}") from None
    names = tree.pop("labels_file", None)
    if isinstance(names, str):
        try:
            text = (path.parent / names).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelError(f"labels_file '{names}' of the manifest {path} cannot be read: {reason}") from None
        tree["labels"] = [line.strip() for line in text.splitlines() if line.strip()]
    return tree


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    return {key[len(_PREFIX) :]: _value(text) for key, text in metadata.items() if key.startswith(_PREFIX)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _from_ultralytics(metadata: Mapping[str, str]) -> dict[str, Any]:
    """``names`` is a Python dict {0: "ball"}, ``imgsz`` [height, width]."""
    tree: dict[str, Any] = {}
    names, size, stride = (_literal(metadata.get(key)) for key in ("names", "imgsz", "stride"))
    if isinstance(names, dict) and names and all(isinstance(key, int) and 0 <= key < _MOST_LABELS for key in names):
        tree["labels"] = [str(names.get(number, number)) for number in range(max(names) + 1)]
    elif isinstance(names, list) and names:
        tree["labels"] = [str(name) for name in names]
    if isinstance(size, list) and len(size) == 2:
        tree["input"] = [size[1], size[0]]
    if isinstance(stride, int) and stride > 0:
        tree["stride"] = stride
    return tree


def _literal(text: str | None) -> Any:
    try:
        return None if text is None else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
