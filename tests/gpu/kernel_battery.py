"""What the pack kernel is held against: a float64 reference, over formats, places, scales, layouts and types."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from shim import OnHost, Shim, pack_on_host

from streamdet.inputspec import InputSpec
from streamdet.tiles.program import Source
from streamdet.types import TilePlan

sys.path.append(str(Path(__file__).resolve().parents[1] / "tiles"))
from packing_reference import packed

LEVELS = 0.02  # grey levels: float32 against float64
SIX = ("r", "g", "b", "difference", "previous_difference", "background_difference")
FRAME = (98, 74)


@dataclass(frozen=True)
class Case:
    """One packing job. `bits`: of the samples; `kind`: nv12, i420 or bgr."""

    name: str
    boxes: Any
    input_wh: tuple[int, int]
    frame_wh: tuple[int, int] = FRAME
    kind: str = "nv12"
    bits: int = 8
    matrix: Any = "bt709"
    full_range: bool = False
    stretch: bool = False
    history: int = 0
    pitch_extra: int = 16
    align: int = 16
    motion: tuple[str, ...] = ("previous", "before_previous", "background")
    spec: dict[str, Any] = field(default_factory=lambda: {"channels": (*SIX, "y")})

    def __str__(self) -> str:
        return self.name


def plane(rng: np.random.Generator, wh: tuple[int, int], bits: int = 8) -> Any:
    """Random samples with long ramps and both ends of the range; 10 bits lie in the upper bits of 16."""
    width, height = wh
    ramp = np.add.outer(np.arange(height) * rng.uniform(-1, 1), np.arange(width) * rng.uniform(-1, 1))
    value = np.clip(0.5 + ramp / max(wh) + rng.normal(0, 0.25, (height, width)), 0, 1)
    return (value * 255).astype(np.uint8) if bits == 8 else ((value * 1023).astype(np.uint16) << 6)


def tiles_of(frame_wh: tuple[int, int], boxes: Any, input_wh: tuple[int, int], *, stretch: bool = False) -> TilePlan:
    boxes = np.array(boxes, np.int32).reshape(-1, 4)
    sizes = boxes[:, 2:] - boxes[:, :2]
    scale = np.array(input_wh) / sizes
    if not stretch:
        scale = np.maximum(1, np.round(sizes * scale.min(1, keepdims=True))) / sizes
    return TilePlan(frame_wh, input_wh, boxes, scale.astype(np.float32), np.zeros(len(boxes), np.uint8), len(boxes))


def levels_of(samples: Any) -> Any:
    """Grey levels 0..255 as the packer reads them."""
    return samples if samples.dtype == np.uint8 else samples.astype(np.float64) / 256


def picture_of(rng: np.random.Generator, case: Case) -> SimpleNamespace:
    wh = case.frame_wh
    half = (wh[0] + 1) // 2, (wh[1] + 1) // 2
    if case.kind == "bgr":
        bgr = np.stack([plane(rng, wh) for _ in range(3)], 2)
        return SimpleNamespace(luma=plane(rng, wh), chroma=None, bgr=bgr, matrix="bt601", full_range=True)
    chroma = tuple(plane(rng, half, case.bits) for _ in range(2))
    return SimpleNamespace(
        luma=plane(rng, wh, case.bits), chroma=chroma, matrix=case.matrix, full_range=case.full_range
    )


def in_levels(picture: SimpleNamespace) -> SimpleNamespace:
    chroma = None if picture.chroma is None else tuple(levels_of(p) for p in picture.chroma)
    return SimpleNamespace(**{**vars(picture), "luma": levels_of(picture.luma), "chroma": chroma})


_wanted: dict[tuple[str, int], Any] = {}  # the reference is slow, and the mutants ask for it again and again


def run_case(shim: Shim, case: Case, seed: int = 0, kernel: str | None = None) -> tuple[Any, Any, InputSpec]:
    """What the kernel made, what it should be (float64, NHWC if so asked), and the description of both."""
    rng = np.random.default_rng([seed, sum(case.name.encode())])
    spec = InputSpec(case.input_wh, stretch=case.stretch, **case.spec)
    pictures = [picture_of(rng, case) for _ in range(case.history + 1)]
    motion = {
        name: plane(rng, case.frame_wh, case.bits) if name in case.motion else None
        for name in ("previous", "before_previous", "background")
    }
    on_host = OnHost(pitch_extra=case.pitch_extra, align=case.align, pair=case.kind == "nv12")
    sources = {}
    for offset in range(-case.history, 1):
        picture = pictures[case.history + offset]
        on_host.picture(picture, offset)
        sources[offset] = Source(picture.chroma is not None, picture.matrix, picture.full_range, case.kind == "nv12")
    for name, samples in motion.items():
        if samples is not None:
            on_host.put((name, 0), samples)  # type: ignore[arg-type]
    tiles = tiles_of(case.frame_wh, case.boxes, case.input_wh, stretch=case.stretch)
    got = pack_on_host(shim, spec, on_host, sources, tiles, kernel=kernel)
    key = case.name, seed
    if case.name == "any" or key not in _wanted:
        now = in_levels(pictures[-1])
        seen = SimpleNamespace(luma=now.luma, **{k: None if v is None else levels_of(v) for k, v in motion.items()})
        _wanted[key] = packed(spec, [in_levels(p) for p in pictures], seen, tiles)
    want = _wanted[key]
    return got, want.transpose(0, 2, 3, 1) if spec.layout == "nhwc" else want, spec


def worst(got: Any, want: Any, spec: InputSpec) -> float:
    """The largest error in grey levels beyond what the tensor's type itself rounds; uint8: share of values not equal, in %."""
    if got.shape != want.shape:
        return np.inf
    values = got.astype(np.float64)
    if spec.dtype == "uint8":
        rounded = np.clip(np.rint(want), 0, 255)
        return np.inf if np.abs(values - rounded).max() > 1 else float((values != rounded).mean() * LEVELS * 100)
    unit = np.array([1 / abs(spec.affine(index)[0]) for index in range(len(spec.channels))])
    unit = unit.reshape((1, 1, 1, -1) if spec.layout == "nhwc" else (1, -1, 1, 1))
    rounding = np.abs(want) * 2**-11 + 2**-14 if spec.dtype == "float16" else 0.0
    error = (np.abs(values - want) - rounding) * unit
    return float(np.inf if np.isnan(error).any() else error.max())


PLACES: dict[str, tuple[Any, tuple[int, int]]] = {
    "scale 1": ([[20, 10, 84, 58], [34, 26, 98, 74], [0, 0, 64, 48]], (64, 48)),
    "scale 1, odd": ([[21, 10, 85, 58], [20, 11, 84, 59], [33, 25, 97, 73], [2, 1, 66, 49]], (64, 48)),
    "scale 1, width no multiple of 8": ([[20, 10, 80, 58], [38, 26, 98, 74]], (60, 48)),
    "magnified": ([[20, 10, 52, 34], [66, 50, 98, 74], [65, 49, 97, 73]], (64, 48)),
    "magnified by 1.37": ([[10, 10, 58, 46]], (66, 49)),
    "shrunk a little": ([[0, 0, 96, 72], [1, 1, 97, 73]], (64, 48)),
    "shrunk to a third": ([[0, 0, 96, 72], [1, 1, 97, 73]], (32, 24)),
    "shrunk to a fifth": ([[3, 2, 98, 74]], (19, 14)),
    "letterboxed": ([[0, 0, 98, 20], [4, 6, 40, 10], [0, 0, 30, 74]], (64, 64)),
    "several scales": ([[0, 0, 98, 74], [20, 10, 84, 58], [50, 20, 66, 32], [40, 40, 41, 41]], (64, 48)),
}


def cases() -> list[Case]:
    made = [
        Case(f"{kind} {bits} {place}", boxes, input_wh, kind=kind, bits=bits)
        for place, (boxes, input_wh) in PLACES.items()
        for kind, bits in (("nv12", 8), ("i420", 8), ("nv12", 10), ("bgr", 8))
    ]
    one = ([[16, 8, 80, 56], [0, 0, 98, 30]], (64, 48))
    made += [
        Case(f"{matrix} {'full' if full else 'limited'}", *one, matrix=matrix, full_range=full)
        for matrix in ("bt601", "bt709", "bt2020")
        for full in (False, True)
    ]
    made += [
        Case(
            f"{layout} {dtype} {'/'.join(channels)}",
            *one,
            spec={"layout": layout, "dtype": dtype, "channels": channels},
        )
        for layout in ("nchw", "nhwc")
        for dtype in ("float32", "float16", "uint8")
        for channels in (("r", "g", "b"), ("b", "g", "r"), ("y",), ("b", "y"))
    ]
    mean = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, -57.375), "pad_value": 33.0}
    made += [
        Case("mean, std and pad by channel", *one, spec=mean),
        Case("mean, std and pad by channel, bgr", *one, kind="bgr", spec=mean),
        Case("float16 with motion", *one, spec={"channels": SIX, "dtype": "float16"}),
        Case("signed scale and clip", *one, spec={"channels": SIX, "signed_scale": 20.0, "signed_clip": 1.5}),
        Case("stretched", [[0, 0, 98, 74], [5, 3, 41, 70]], (64, 64), stretch=True),
        Case("stretched across only", [[5, 3, 41, 67]], (64, 64), stretch=True),
        Case("a part of a run at the end of memory", [[36, 26, 96, 74]], (60, 48), frame_wh=(96, 74), pitch_extra=0),
        Case("no past", *one, motion=()),
        Case("no background", *one, motion=("previous",)),
        Case("nine grey pictures", *one, history=8, spec={"channels": tuple(f"y[{-8 + i}]" for i in range(9))}),
        Case("earlier colours", *one, history=2, spec={"channels": ("r[-2]", "y", "g", "b[-1]", "difference", "r")}),
        Case("rows not aligned", *one, align=1, pitch_extra=5),
        Case("rows not aligned, planar", *one, align=1, pitch_extra=3, kind="i420"),
        Case("rows aligned to 2", *one, align=2, pitch_extra=6, bits=10),
        Case("rows aligned to 4", *one, align=4, pitch_extra=4),
        Case("tight rows", *one, pitch_extra=0, align=1),
    ]
    for wh in ((97, 73), (1, 1), (3, 2), (17, 16), (16, 17)):
        for input_wh in ((97, 73), (64, 64), (20, 20)):
            whole = [[0, 0, *wh]]
            made.append(Case(f"frame {wh} into {input_wh}", whole, input_wh, frame_wh=wh, spec={"channels": SIX}))
    return made


def fails(shim: Shim) -> str:
    """The first case in which the kernel is not what it should be, or ""."""
    for case in cases():
        error = worst(*run_case(shim, case))
        if not error <= LEVELS:
            return f"{case}: off by {error:.4g} levels"
    return ""
