"""``streamdet export-frames``: what a network would be fed from a clip, colours and motion, as files to train on.

The tensors are the pipeline's own: the same source, motion model, tile plan and packer make them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamdet.assemble import find_model, make_detector, open_source
from streamdet.config import Config, with_values
from streamdet.errors import ModelError, OutputError, UsageError
from streamdet.inputspec import Channel, InputSpec
from streamdet.motion.model import MotionModel
from streamdet.places import only_source
from streamdet.scoring.labels import Labels, read_labels
from streamdet.tiles.pack_cpu import CpuPacker
from streamdet.tiles.plan import plan_tiles
from streamdet.tuning.slice_files import refuse_used
from streamdet.tuning.slicing import cut_boxes
from streamdet.tuning.tiff import write_tiff
from streamdet.types import Frame, TilePlan

__all__ = ["Exported", "export_frames", "packed_frames", "spec_of"]

_COLOURS = {"rgb": ("r", "g", "b"), "bgr": ("b", "g", "r"), "grey": ("y",), "gray": ("y",)}
_SHORT = {"background": "background_difference", "previous": "previous_difference"}
MIN_VISIBLE = 0.4


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    frames: int
    tiles: int
    objects: int
    channels: tuple[str, ...]


def spec_of(channels: str) -> InputSpec:
    """``rgb+difference+background`` -> colours as 0..1, differences in steps of 64 grey levels, any size. Raises UsageError."""
    names: list[str] = []
    for word in (part.strip() for part in channels.split("+")):
        base, bracket, offset = word.partition("[")
        colours = _COLOURS.get(base.lower())
        names += [f"{colour}{bracket}{offset}" for colour in colours] if colours else [_SHORT.get(word, word)]
    try:
        for name in names:
            Channel.parse(name)
        return InputSpec(channels=tuple(names), std=(255.0,), stride=1)
    except ModelError as error:
        raise UsageError(f"--channels {channels}: {error}") from None


def like_model(config: Config, model: str) -> InputSpec:
    """What the network `model` is fed, as its file has it: a runtime may want the same packed otherwise. Raises ModelError,
    UsageError for ``motion``."""
    if find_model(model) is None:
        raise UsageError("--like motion: it has no network and is fed nothing; name a network, or use --channels")
    own = {"model.name": model, "model.backend": "onnxruntime", "model.device": "cpu"}
    with make_detector(with_values(config, own)) as detector:
        assert detector.input is not None
        return detector.input


def packed_frames(
    config: Config, spec: InputSpec, *, every: int = 1, max_frames: int = 0
) -> Iterator[tuple[Frame, TilePlan, NDArray[Any]]]:
    """Frame, tiles and tensor (T, C, h, w) of every `every`-th frame; all frames are seen by the motion model."""
    motion_model, packer = MotionModel(config.motion), CpuPacker(spec)
    plan: TilePlan | None = None
    with open_source(only_source(config.sources), config) as source:
        for number, frame in enumerate(source):
            if max_frames and number >= max_frames:
                return
            motion = motion_model(frame)
            if plan is None or plan.frame_wh != frame.wh:
                plan = plan_tiles(
                    frame.wh, input_wh=spec.wh, config=config.tiles, stretch=spec.stretch, stride=spec.stride
                )
            wanted = number % every == 0
            batch = packer(frame, motion, plan if wanted else plan[:0])  # the packer counts frames of the past, too
            if wanted:
                yield frame, plan, np.array(batch.data)


def export_frames(
    config: Config,
    spec: InputSpec,
    folder: Path,
    *,
    form: str = "npz",
    labels: str | os.PathLike[str] | None = None,
    every: int = 1,
    max_frames: int = 0,
    only_labelled: bool = False,
    on_frame: Callable[[int], object] | None = None,
) -> Exported:
    """Write one .npz per frame (all tiles), or one TIFF per tile; and ``export.json``, which says what the channels are.

    .npz: ``data`` (T,C,h,w), ``tiles`` (T,4) px of the frame, ``scale`` (T,2), ``frame``, ``pts_s``; with labels also ``boxes``
    (N,4) input px, ``box_tile`` (N,), ``box_label`` (N,). With `only_labelled` frames and tiles without objects are left
    out. `on_frame` is told how many frames of the clip have been looked at. Raises OutputError, ConfigError.
    """
    refuse_used(folder)
    truth = None if labels is None else read_labels(labels)
    names = () if truth is None else tuple(sorted({str(name) for name in truth.name}))
    frames = tiles = objects = 0
    index: list[dict[str, Any]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for frame, plan, data in packed_frames(config, spec, every=every, max_frames=max_frames):
            if on_frame is not None:
                on_frame(frame.index + 1)
            boxes, box_tile, kind = _boxes(truth, names, frame.index, plan)
            rows = np.unique(box_tile) if only_labelled else np.arange(len(plan))
            if not len(rows):
                continue
            new = np.searchsorted(rows, box_tile)
            stem = f"{frame.stream}_{frame.index:06d}"
            if form == "npz":
                np.savez_compressed(
                    folder / f"{stem}.npz",
                    data=data[rows], tiles=plan.xyxy[rows], scale=plan.scale[rows], frame=frame.index, pts_s=frame.pts_s,
                    boxes=boxes, box_tile=new, box_label=kind,
                )  # fmt: skip
            else:
                planes = data.transpose(0, 3, 1, 2) if spec.layout == "nhwc" else data
                for row in rows.tolist():
                    x, y = plan.xyxy[row, :2].tolist()
                    name = f"{stem}_{x}_{y}.tiff"
                    write_tiff(
                        folder / name, planes[row], about={"channels": list(spec.channels), "frame": frame.index}
                    )
                    mine = box_tile == row
                    index.append({"file": name, "boxes": boxes[mine].round(3).tolist(), "labels": kind[mine].tolist()})
            frames, tiles, objects = frames + 1, tiles + len(rows), objects + len(boxes)
        _describe(folder, config, spec, form, names, index)
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from None
    return Exported(folder, frames, tiles, objects, spec.channels)


def _boxes(
    truth: Labels | None, names: Sequence[str], frame: int, plan: TilePlan
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Labelled boxes of `frame` in px of the network's input, with the tile each lies in; cut as slice-dataset cuts them."""
    boxes, tiles, kinds = [], [], []
    if truth is not None:
        rows = np.flatnonzero((truth.frame == frame) & truth.visible)
        half = np.maximum(truth.wh[rows], 1.0) / 2  # a point is a box of one pixel
        full = np.hstack([truth.centre[rows] - half, truth.centre[rows] + half])
        label = np.array([names.index(str(name)) for name in truth.name[rows]], np.int64)
        for tile, area in enumerate(plan.xyxy.tolist()):
            cut, inside, _ = cut_boxes(full, area, min_visible=MIN_VISIBLE)
            boxes.append(cut[inside] * np.tile(plan.scale[tile], 2))
            tiles.append(np.full(int(inside.sum()), tile))
            kinds.append(label[inside])
    return (
        np.concatenate([*boxes, np.zeros((0, 4))]).astype(np.float32),
        np.concatenate([*tiles, np.zeros(0)]).astype(np.int64),
        np.concatenate([*kinds, np.zeros(0)]).astype(np.int64),
    )


def _describe(
    folder: Path, config: Config, spec: InputSpec, form: str, names: Sequence[str], index: list[dict[str, Any]]
) -> None:
    """``export.json``: how the numbers came about, so that training and running agree."""
    record = {
        "schema": 1,
        "source": config.sources[0],
        "format": form,
        "channels": list(spec.channels),
        "layout": spec.layout if form == "npz" else "chw",
        "mean": list(spec.mean),
        "std": list(spec.std),
        "signed_scale": spec.signed_scale,
        "signed_clip": spec.signed_clip,
        "pad": spec.pad_value,
        "labels": list(names),
    }
    tree = record | ({"tiles": index} if form == "tiff" else {})
    (folder / "export.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
