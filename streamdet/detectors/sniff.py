"""Which family a file belongs to and what it wants to be fed, from its ports, its metadata and one inference on noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.detectors.coco import COCO_80, COCO_91
from streamdet.detectors.decode import FAMILIES, Family, Layout, Raw, Seen, family_named
from streamdet.detectors.onnx_header import Port
from streamdet.detectors.spec import Manifest, ModelFile
from streamdet.errors import ModelError
from streamdet.inputspec import InputSpec
from streamdet.types import FAINT_SHARE, WEAK_SHARE

__all__ = ["ModelSpec", "extra_inputs", "input_shape", "sniff"]

_FREE_WH = (320, 320)
_EVERYDAY = {"rgb": ("r", "g", "b"), "bgr": ("b", "g", "r"), "grey": ("y",), "gray": ("y",)}
_DTYPES = {"float32": "float32", "float16": "float16", "uint8": "uint8"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything needed to feed a network and to read its answer. ``assumed``: what was guessed, in words."""

    file: ModelFile
    family: Family
    layout: Layout
    input: InputSpec
    labels: tuple[str, ...]
    threshold: float | dict[str, float]
    assumed: tuple[str, ...] = ()

    @property
    def weak_share(self) -> float:
        """Down to which share of a threshold detections are of use to what follows."""
        return FAINT_SHARE if self.input.shows_motion else WEAK_SHARE


def input_shape(file: ModelFile) -> tuple[int | None, tuple[int, int] | None, int | None]:
    """Fixed batch, (width, height) and channels of the picture input; None where the file leaves them free."""
    batch, *rest = file.picture.shape
    channels, height, width = (rest[2], rest[0], rest[1]) if file.nhwc else rest
    said = file.said.input
    if said is not None and ((width or said[0]), (height or said[1])) != said:
        raise ModelError(
            f"the model {file.path} takes {width or '?'}x{height or '?'} px, its manifest says {said[0]}x{said[1]}; "
            "correct `input` in the manifest"
        )
    wh = (width, height) if width is not None and height is not None else said
    return batch, wh, channels


def probe_wh(file: ModelFile) -> tuple[int, int]:
    """Input px of the inference on noise."""
    wh = input_shape(file)[1]
    if wh is not None:
        return wh
    stride = file.said.stride or 32
    return -(-_FREE_WH[0] // stride) * stride, -(-_FREE_WH[1] // stride) * stride


def noise(file: ModelFile) -> NDArray[Any]:
    """One batch of noise in the range 0..1 (0..255 for uint8), always the same."""
    batch, _, channels = input_shape(file)
    width, height = probe_wh(file)
    count = channels or len(_channels(file.said) or "rgb")
    shape = (batch or 1, height, width, count) if file.nhwc else (batch or 1, count, height, width)
    picture = np.random.default_rng(0).random(shape, np.float32)
    if file.picture.dtype == "uint8":
        return (picture * 255).astype(np.uint8)
    return picture.astype(np.float16) if file.picture.dtype == "float16" else picture


def extra_inputs(ports: tuple[Port, ...], wh: tuple[int, int], step: int) -> dict[str, NDArray[Any]]:
    """Values of the inputs beside the picture, for `step` tiles of `wh` px: boxes shall come in input px, unfiltered.

    Raises ModelError for an input whose meaning is unknown.
    """
    return {port.name: _extra(port, wh, step) for port in ports}


def _extra(port: Port, wh: tuple[int, int], step: int) -> NDArray[Any]:
    name = port.name.lower()
    dtype = np.dtype(port.dtype if port.dtype != "bfloat16" else "float32")
    shape = tuple(step if size is None and axis == 0 else size or 1 for axis, size in enumerate(port.shape))
    value: list[float] | float
    if "scale" in name:
        value = 1.0
    elif "mask" in name:
        shape = (step, wh[1], wh[0]) if None in port.shape[1:] else shape
        value = 1.0
    elif "im_shape" in name or "image_shape" in name:
        value = [wh[1], wh[0]]
    elif "size" in name:
        value = [wh[0], wh[1]]
    elif "iou" in name:
        value = 0.5
    elif "score" in name or "conf" in name or name.endswith("threshold"):
        value = 0.05
    elif "max" in name:
        value = 1000
    else:
        raise ModelError(
            f"the model has a second input '{port}' whose meaning is unknown; export it with the picture as its only input"
        )
    return np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype), shape))


def sniff(file: ModelFile, sample: Raw) -> ModelSpec:
    """Recognise `file` by the outputs `sample` of one inference on :func:`noise`. Raises ModelError with what was seen."""
    if _only_nan(sample):
        raise ModelError(
            f"the model {file.path} gives nothing but NaN, whatever it is shown; the file or its half-precision export is "
            "broken: export it again, in fp32"
        )
    said = file.said
    batch, wh, channels = input_shape(file)
    names = tuple(said.labels) if said.labels is not None else None
    seen = Seen(
        sample=sample,
        wh=probe_wh(file),
        channels=channels or len(_channels(said) or "rgb"),
        labels=None if names is None else len(names),
        strides=tuple(said.strides or ()),
        extra=tuple(port.name for port in file.extra),
        nhwc=file.nhwc,
        task=file.task,
    )
    if file.task in ("classify", "embed"):
        raise ModelError(f"the model {file.path} is made for the task '{file.task}', not for detection")
    family, layout = _recognise(file, seen)
    if family.name in ("detr", "detr_sigmoid", "rfdetr") and names is not None and layout.classes == len(names) + 1:
        layout = replace(layout, classes=len(names))  # a last column for "nothing", never the best one
    layout = _overridden(layout, said)
    labels, assumed = _labels(file, family, layout, names, seen)
    return ModelSpec(
        file=file,
        family=family,
        layout=layout,
        input=_input_spec(file, family, batch, wh, seen),
        labels=labels,
        threshold=said.threshold if said.threshold is not None else family.threshold,
        assumed=assumed,
    )


def _only_nan(sample: Raw) -> bool:
    real = [array for array in sample.values() if array.dtype.kind == "f" and array.size]
    return bool(real) and all(bool(np.isnan(array).all()) for array in real)


def _recognise(file: ModelFile, seen: Seen) -> tuple[Family, Layout]:
    wanted = file.said.decoder
    if wanted is not None:
        family = family_named(wanted)
        if family is None:
            raise ModelError(
                f"decoder '{wanted}' of the model {file.path} is unknown; use one of {', '.join(f.name for f in FAMILIES)}"
            )
        layout = family.recognise(seen)
        if layout is None:
            _despite_labels(family, seen, file)
            raise ModelError(
                f"the outputs of {file.path} are not of the layout '{family.name}' ({family.about}), "
                f"seen: {_shapes(file, seen)}; correct `decoder` in its manifest"
            )
        return family, layout
    for family in FAMILIES:
        layout = family.recognise(seen)
        if layout is not None:
            return family, layout
    for family in FAMILIES:
        _despite_labels(family, seen, file)
    raise ModelError(_unknown(file, seen))


def _despite_labels(family: Family, seen: Seen, file: ModelFile) -> None:
    """If `family` fits but for the number of labels, say so."""
    if seen.labels is None:
        return
    layout = family.recognise(replace(seen, labels=None))
    if layout is not None and layout.classes:
        raise ModelError(
            f"the model {file.path} looks like {family.name} with {layout.classes} classes, but {seen.labels} labels are given; "
            "correct `labels` in its manifest"
        )


def _shapes(file: ModelFile, seen: Seen) -> str:
    inputs = [f"input {port}" for port in (file.picture, *file.extra)]
    outputs = [
        f"output {name} {array.dtype} [{', '.join(map(str, array.shape))}]" for name, array in seen.sample.items()
    ]
    return "; ".join(inputs + outputs)


def _unknown(file: ModelFile, seen: Seen) -> str:
    shapes = [array.shape for array in seen.sample.values()]
    if len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][1] not in (6, 7):
        return (
            f"the model {file.path} gives one row of {shapes[0][1]} numbers per picture: an embedding or a classifier, "
            f"not a detector; seen: {_shapes(file, seen)}"
        )
    families = "\n".join(f"  {family.name:15} {family.about}" for family in FAMILIES)
    example = '  decoder = "yolov8"\n  labels = ["ball", "person"]\n  channels = "rgb"\n  mean = 0\n  std = 255'
    return (
        f"the output layout of {file.path} is unknown, seen: {_shapes(file, seen)}; say how to read it in "
        f"{file.path.with_suffix('.toml').name} beside it, for example\n{example}\ndecoders are\n{families}"
    )


def _overridden(layout: Layout, said: Manifest) -> Layout:
    names = ("activation", "decoded", "box_format", "box_unit", "first_label", "size_unit", "frame", "box_px")
    given = {name: getattr(said, name) for name in names if getattr(said, name) is not None}
    return replace(layout, **given) if given else layout


def _labels(
    file: ModelFile, family: Family, layout: Layout, names: tuple[str, ...] | None, seen: Seen
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if names is not None:
        if layout.classes and len(names) != layout.classes:
            raise ModelError(
                f"the model {file.path} has {layout.classes} classes, but {len(names)} labels are given; "
                "correct `labels` in its manifest"
            )
        return names, ()
    if family.name in ("heatmaps", "ball_grid"):
        return ("ball",), ()
    if layout.classes == len(COCO_80):
        return COCO_80, ("labels: COCO-80",)
    # torchvision (unbatched rows) and TensorFlow (channels last) use COCO's own ids, from 1 to 90
    from_one = family.name == "detections" and (file.nhwc or seen.sample[layout.roles["boxes"][0]].ndim == 2)
    if layout.classes == len(COCO_91) or from_one:
        return COCO_91, ("labels: COCO-91",)
    if not layout.classes:
        return COCO_80, ("labels: COCO-80",)
    return tuple(f"class {number}" for number in range(layout.classes)), ("labels: numbers, none are given",)


def _channels(said: Manifest) -> tuple[str, ...] | None:
    if said.channels is None:
        return None
    if isinstance(said.channels, str):
        named = _EVERYDAY.get(said.channels.lower())
        if named is None:
            raise ModelError(f"channels '{said.channels}' is unknown; use {', '.join(_EVERYDAY)} or a list of names")
        return named
    return tuple(said.channels)


def _input_spec(
    file: ModelFile, family: Family, batch: int | None, wh: tuple[int, int] | None, seen: Seen
) -> InputSpec:
    said, count = file.said, seen.channels
    channels = _channels(said) or _usual_channels(file, family, seen)
    if len(channels) != count:
        raise ModelError(
            f"the model {file.path} takes {count} input channels, but {len(channels)} are named ({', '.join(channels)}); "
            "correct `channels` in its manifest"
        )
    dtype = _DTYPES.get(file.picture.dtype)
    if dtype is None:
        raise ModelError(f"the model {file.path} takes {file.picture.dtype} pictures; export it with float32 or uint8")
    # the habits of a family are about three colours, and an 8-bit input is scaled inside the network
    mean, std = family.mean, family.std
    if dtype == "uint8":
        mean, std = (0.0,), (1.0,)
    elif len(channels) != len(mean):
        mean, std = mean[:1], std[:1]
    elif channels == ("r", "g", "b") and family.channels == ("b", "g", "r"):
        mean, std = mean[::-1], std[::-1]
    default = InputSpec()
    return InputSpec(
        wh=wh,
        channels=channels,
        mean=_numbers(said.mean, mean),
        std=_numbers(said.std, std),
        signed_scale=said.signed_scale or default.signed_scale,
        signed_clip=said.signed_clip or default.signed_clip,
        pad_value=family.pad if said.pad is None else said.pad,
        stretch=family.stretch if said.resize is None else said.resize == "stretch",
        layout="nhwc" if file.nhwc else "nchw",
        dtype=dtype,  # type: ignore[arg-type]  # one of the three
        batch=batch,
        stride=said.stride or 32,
    )


def _usual_channels(file: ModelFile, family: Family, seen: Seen) -> tuple[str, ...]:
    count = seen.channels
    if family.name == "heatmaps" and seen.only is not None and seen.only.shape[1] * 3 == count:
        return tuple(f"{colour}[{frame}]" for frame in range(1 - count // 3, 1) for colour in "rgb")
    if family.name in ("heatmaps", "ball_grid"):
        return tuple(f"y[{frame}]" for frame in range(1 - count, 1))
    if count == 3:
        return family.channels if len(family.channels) == 3 else ("r", "g", "b")
    if count == 1:
        return ("y",)
    raise ModelError(
        f"the model {file.path} takes {count} input channels and does not say which; name them in "
        f'{file.path.with_suffix(".toml").name}, for example channels = ["r", "g", "b", "difference"]'
    )


def _numbers(said: list[float] | float | None, usual: tuple[float, ...]) -> tuple[float, ...]:
    if said is None:
        return usual
    return tuple(said) if isinstance(said, list) else (float(said),)
