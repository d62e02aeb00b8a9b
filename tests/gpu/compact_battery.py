"""What the compaction kernels are held against: the decoders of the package, on the same answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from shim import Shim, guarded, placed

from streamdet.detectors.compact_cuda import FOUND, describe, kernel_of, rows_of, threads_of
from streamdet.detectors.decode import family_named
from streamdet.detectors.decode.layout import Candidates, Layout, cells

WH = (96, 64)
STRIDES = (8, 16, 32)
CELLS = cells(WH, STRIDES)


@dataclass(frozen=True)
class Case:
    """`classes`, `extra` columns and `tiles` of one output of a family; `fields`: of its Layout."""

    name: str
    family: str
    classes: int = 3
    extra: int = 0
    tiles: int = 3
    floor: float = 0.3
    half: bool = False
    odd: bool = False  # with values that are not numbers
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def cases() -> list[Case]:
    made = []
    for half in (False, True):
        kind = "f16" if half else "f32"
        for activation in ("none", "sigmoid"):
            fields = {"activation": activation}
            made += [
                Case(f"yolox decoded {activation} {kind}", "yolox", half=half, fields=fields),
                Case(f"yolox cells {activation} {kind}", "yolox", half=half, fields={**fields, "decoded": False}),
                Case(f"yolov5 {activation} {kind}", "yolov5", half=half, fields=fields),
                Case(f"yolov8 {activation} {kind}", "yolov8", half=half, fields=fields),
                Case(f"yolov8 upright {activation} {kind}", "yolov8", half=half, fields={**fields, "transposed": True}),
                Case(f"centers {activation} {kind}", "centers", half=half, fields=fields),
            ]
    made += [Case(f"yolov8 {form}", "yolov8", fields={"box_format": form}) for form in ("xyxy", "yxyx", "xywh")]
    made += [Case(f"yolov5 {form}", "yolov5", fields={"box_format": form}) for form in ("xyxy", "yxyx", "xywh")]
    made += [Case(f"centers {unit}", "centers", fields={"size_unit": unit}) for unit in ("log_px", "px", "cells")]
    made += [
        Case("yolov8 relative", "yolov8", fields={"box_unit": "relative"}),
        Case("yolov5 one class and no class columns", "yolov5", classes=0),
        Case("yolov8 more columns", "yolov8", extra=5),
        Case("yolov5 more columns", "yolov5", extra=2),
        Case("yolov8 80 classes", "yolov8", classes=80, floor=0.9),
        Case("all kept", "yolov8", floor=0.0),
        Case("none kept", "yolox", floor=2.0),
        Case("centers all kept", "centers", floor=-1.0, classes=1),
        Case("not a number, yolox", "yolox", odd=True),
        Case("not a number, yolov8", "yolov8", odd=True),
        Case("not a number, centers", "centers", odd=True),
    ]
    return made


def answers(case: Case) -> tuple[dict[str, Any], Layout]:
    """Outputs as such a network gives them, with ties, and their layout."""
    rng = np.random.default_rng(sum(case.name.encode()))
    dtype = np.float16 if case.half else np.float32
    logits = case.fields.get("activation") == "sigmoid"

    def scores(shape: tuple[int, ...]) -> Any:
        value = rng.random(shape) ** 3
        value = np.round(value * 32) / 32  # ties
        return np.log((value + 0.01) / (1.01 - value)) if logits else value

    if case.family == "centers":
        height, width = WH[1] // 8, WH[0] // 4
        raw = {
            "heat": scores((case.tiles, case.classes, height, width)),
            "offset": rng.random((case.tiles, 2, height, width)),
            "size": rng.uniform(0.5, 3, (case.tiles, 2, height, width)),
        }
        roles = {name: (name,) for name in raw}
    else:
        rows = CELLS * (3 if case.family == "yolov5" else 1)
        boxes = rng.uniform(0, 1, (case.tiles, rows, 4))
        if case.fields.get("box_unit") != "relative":
            boxes *= 60 if case.fields.get("decoded", True) else 2
        objectness = [] if case.family == "yolov8" else [scores((case.tiles, rows, 1))]
        parts = [
            boxes,
            *objectness,
            scores((case.tiles, rows, case.classes)),
            rng.random((case.tiles, rows, case.extra)),
        ]
        output = np.concatenate(parts, axis=2)
        if case.family == "yolov8" and not case.fields.get("transposed"):
            output = output.transpose(0, 2, 1)
        raw = {"output": output}
        roles = {"output": ("output",)}
    if case.odd:
        for array in raw.values():
            flat = array.reshape(-1)
            flat[rng.integers(0, flat.size, flat.size // 50)] = np.nan
    fields = {"box_format": "cxcywh"} | case.fields
    layout = Layout(case.family, roles, case.classes, STRIDES, **fields)
    return {name: np.ascontiguousarray(array, dtype) for name, array in raw.items()}, layout


def compacted(
    shim: Shim, raw: dict[str, Any], layout: Layout, floor: float, *, room: int | None = None
) -> tuple[Any, int]:
    """The rows as the GPU leaves them, unordered, and how many there were."""
    job = placed(describe(layout, {name: array.shape for name, array in raw.items()}, WH, floor))
    if room is not None:
        job["room"] = room
    names = ["heat", "offset", "size"] if layout.family == "centers" else ["output"]
    kept = []
    for slot, name in zip(("first", "second", "third"), names):
        array = raw[layout.roles[name][0]]
        memory = guarded(array.nbytes)
        memory[:] = np.frombuffer(array.tobytes(), np.uint8)
        kept.append(memory)
        job[slot] = memory.ctypes.data
    job["half"] = next(iter(raw.values())).dtype == np.float16
    found = guarded(max(1, int(job["room"])) * FOUND.itemsize).view(FOUND)
    count = placed(np.zeros(1, np.int32))
    job["found"], job["count"] = found.ctypes.data, count.ctypes.data
    name = kernel_of(layout)
    assert name is not None
    shim.launch(name, (*threads_of(job), 1), 256, job)
    return found[: min(int(count[0]), int(job["room"]))], int(count[0])


def decoded(raw: dict[str, Any], layout: Layout, floor: float) -> Candidates:
    family = family_named(layout.family)
    assert family is not None
    single = {name: array.astype(np.float32) for name, array in raw.items()}
    with np.errstate(all="ignore"):
        return family.decode(single, layout, WH, floor)


def difference(got: Candidates, want: Candidates) -> str:
    """What differs, or ""."""
    if len(got) != len(want):
        return f"{len(got)} rows, not {len(want)}"
    for name in ("tile", "label"):
        if not np.array_equal(getattr(got, name), getattr(want, name)):
            return f"{name} differs"
    for name, tolerance in (("score", 1e-6), ("xyxy", 1e-4)):
        a, b = getattr(got, name), getattr(want, name)
        if not np.allclose(a, b, rtol=1e-5, atol=tolerance, equal_nan=True):
            return f"{name} differs by {np.nanmax(np.abs(a - b)):.3g}"
    return ""


def fails(shim: Shim) -> str:
    """The first case in which the kernels and the decoder disagree, or ""."""
    for case in cases():
        raw, layout = answers(case)
        found, _ = compacted(shim, raw, layout, case.floor)
        found = np.random.default_rng(0).permutation(found)  # whatever order the GPU found them in
        said = difference(rows_of(found, layout), decoded(raw, layout, case.floor))
        if said:
            return f"{case}: {said}"
    return ""
