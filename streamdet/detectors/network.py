"""A detector with a network: a backend runs it, a decoder reads it, and what comes out is boxes in frame px."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamdet.boxes import nms
from streamdet.config import ModelConfig
from streamdet.detectors.backend import Backend, first_answer, joined
from streamdet.detectors.choose import Choice, choose, make_backend, thread_count
from streamdet.detectors.classes import ClassMap, map_classes
from streamdet.detectors.decode.layout import Candidates, Raw
from streamdet.detectors.decode.prototypes import draw_masks
from streamdet.detectors.local import only_local_operators, why_not_local
from streamdet.detectors.memory import fingerprint, remember, remembered
from streamdet.detectors.runtimes import Name
from streamdet.detectors.sniff import ModelSpec, noise, sniff
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.errors import ModelError
from streamdet.inputspec import InputSpec
from streamdet.types import F32, Detections, TileBatch, TilePlan

__all__ = ["NetworkDetector", "in_pieces", "moved", "open_detector"]

_MOST_PER_TILE = 300
_LOCAL_EDITION = 2  # of how it is found out whether a network is local: a higher number makes old memories stale
_LOG = logging.getLogger(__name__)


def open_detector(config: ModelConfig, path: str | Path) -> NetworkDetector:
    """The detector for the ONNX file at `path`; its header is read now, the network is loaded on ``__enter__``.

    Raises ModelError if the file is missing, damaged or no ONNX model, or its manifest is wrong.
    """
    return NetworkDetector(config, read_model(path))


class NetworkDetector:
    """`streamdet.protocols.Detector`. Everything but the constructor needs ``with detector:`` first.

    ``counts``: tiles and inferences run; rows dropped because they were no numbers ("not_finite") or of a class without a
    name ("unknown_label"). ``warnings``: the same as sentences for the summary.
    """

    def __init__(self, config: ModelConfig, file: ModelFile) -> None:
        self._config = config
        self._file = file
        self._stack = contextlib.ExitStack()
        self._backend: Backend | None = None
        self._runtime: Name | None = None
        self._spec: ModelSpec | None = None
        self._classes: ClassMap | None = None
        self.counts = {"tiles": 0, "not_finite": 0, "unknown_label": 0}

    def __enter__(self) -> Self:
        """Raises ModelError, ConfigError (a class nobody knows), StartupError (device), DependencyError (backend)."""
        with contextlib.ExitStack() as stack:
            choice = choose(self._config, self._file)
            backend = stack.enter_context(make_backend(choice, self._file, thread_count(self._config)))
            spec = sniff(self._file, self._sample(choice, backend))
            spec = replace(spec, input=backend.wants(spec.input))
            self._classes = map_classes(spec.labels, self._config, spec.threshold, usual=spec.family.threshold)
            self._backend, self._runtime, self._spec = backend, choice.backend, spec
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._backend = None
        self._stack.close()

    def _sample(self, choice: Choice, backend: Backend) -> Raw:
        """Answers to noise. OpenVINO would compile the network for it in a form that is used no more: twice the time."""
        if choice.backend == "openvino":
            try:
                with make_backend(Choice("onnxruntime"), self._file, 1) as known:
                    return first_answer(known, noise(self._file))
            except ModelError as error:
                _LOG.debug("%s", error)
        return first_answer(backend, noise(self._file))

    @property
    def spec(self) -> ModelSpec:
        if self._spec is None:
            raise RuntimeError("the detector is not entered yet")
        return self._spec

    @functools.cached_property
    def local(self) -> bool:
        """See `streamdet.protocols.Detector`. Tried once per file, on onnxruntime, and remembered: some inferences."""
        if not only_local_operators(self._file):
            return False
        key = f"{fingerprint(self._file.path)} local {_LOCAL_EDITION}"
        known = remembered(key)
        if not isinstance(known.get("local"), bool):
            try:
                with make_backend(Choice("onnxruntime"), self._file, thread_count(self._config)) as backend:
                    why = why_not_local(sniff(self._file, first_answer(backend, noise(self._file))), backend)
            except ModelError as error:  # another runtime may take it
                why = str(error)
            known = {"model": self._file.path.name, "local": not why} | ({"why": why} if why else {})
            remember(key, known)
        return bool(known["local"])

    @property
    def many_sizes(self) -> bool:
        """See `streamdet.protocols.Detector`."""
        return self.local and self._runtime == "onnxruntime"

    @property
    def _map(self) -> ClassMap:
        if self._classes is None:
            raise RuntimeError("the detector is not entered yet")
        return self._classes

    @property
    def input(self) -> InputSpec:
        """What the packer must make."""
        return self.spec.input

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names after renaming, indexed by the ids in Detections."""
        return self._map.labels

    @property
    def threshold(self) -> float:
        """The lowest score that counts."""
        return self._map.floor

    @property
    def thresholds(self) -> F32:
        """(L,) the score that counts, by label."""
        return self._map.by_label

    @property
    def _about(self) -> str:
        return self._backend.about if self._backend is not None else "closed"

    def describe(self) -> str:
        """One line: file, family, input, what was assumed, backend."""
        spec, size = self.spec, self.input.wh
        shape = "any size" if size is None else f"{size[0]}x{size[1]}"
        assumed = "".join(f", {text} (assumed)" for text in spec.assumed)
        about = self._about
        channels = " ".join(self.input.channels)
        return f"{self._file.path.name}: {spec.family.name}, input {shape} {channels}{assumed}, {about}"

    @property
    def warnings(self) -> list[str]:
        said = []
        name = self._file.path.name
        if self.counts["not_finite"]:
            said.append(
                f"the model {name} gave {self.counts['not_finite']} rows that are not numbers (NaN or infinite); "
                "they were dropped: the file or its half-precision export is probably broken"
            )
        if self.counts["unknown_label"]:
            said.append(
                f"the model {name} gave {self.counts['unknown_label']} rows of a class beyond its {len(self.spec.labels)} "
                "labels; they were dropped: give the right labels in its manifest"
            )
        return said

    def __call__(self, batch: TileBatch) -> Detections:
        """Detections of all tiles, in frame px, clipped to the frame; duplicates inside one tile are gone."""
        return self.together([batch])[0]

    def together(self, batches: Sequence[TileBatch]) -> list[Detections]:
        """Several batches through the network in one go (those with inputs of one size), and apart again."""
        found = [Detections.empty()] * len(batches)
        for members in self._groups(batches):
            data = [batches[index].data for index in members]
            candidates = self._wanted(self._candidates(data, batches[members[0]].tiles.input_wh))
            first = 0
            for index in members:
                tiles = batches[index].tiles
                mine = (candidates.tile >= first) & (candidates.tile < first + tiles.slots)
                found[index] = self._finish(moved(candidates[mine], -first), tiles)
                first += tiles.slots
            self.counts["tiles"] += first
        return found

    def _groups(self, batches: Sequence[TileBatch]) -> list[list[int]]:
        """Which of them go through the network together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, batch in enumerate(batches):
            if len(batch.tiles):
                groups.setdefault(batch.tiles.input_wh, []).append(index)
        return list(groups.values())

    def _candidates(self, data: Sequence[Any], input_wh: tuple[int, int]) -> Candidates:
        """The network's answers for tiles of several batches of one group, in input px."""
        spec, backend = self.spec, self._backend
        if backend is None:
            raise RuntimeError("the detector is not entered yet")
        parts: list[Candidates] = []
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinities are counted below, not reported here
            for first, rows, raw in backend.infer(joined(data)):
                found = spec.family.decode(raw, spec.layout, input_wh, spec.weak_share * self._map.floor)
                real = (found.tile >= 0) & (found.tile < rows)  # not what fills up a fixed batch
                parts.append(moved(found[real], first))
        return Candidates.concat(parts)

    def _wanted(self, found: Candidates) -> Candidates:
        """Finite rows of wanted classes down to the weak share of their thresholds, with the user's class ids."""
        finite = np.isfinite(found.score) & np.isfinite(found.xyxy).all(axis=1)
        found = self._drop(found, finite, "not_finite")
        known = (found.label >= 0) & (found.label < len(self._map.ids))
        found = self._drop(found, known, "unknown_label")
        label = self._map.ids[found.label]
        keep = (label >= 0) & (found.score >= self.spec.weak_share * self._map.threshold[found.label])
        return replace(found, score=found.score.clip(max=1.0), label=label)[keep]

    def _drop(self, found: Candidates, keep: NDArray[np.bool_], why: str) -> Candidates:
        dropped = len(found) - int(np.count_nonzero(keep))
        if not dropped:
            return found
        first = self.counts[why] == 0
        self.counts[why] += dropped
        if first:
            _LOG.warning("%s", self.warnings[-1])
        return found[keep]

    def _finish(self, found: Candidates, tiles: TilePlan) -> Detections:
        """`found`: ``tile`` is the input it was found in."""
        found = in_pieces(found, tiles)
        xyxy = tiles.to_frame(found.xyxy, found.tile)
        inside = _centre_inside(xyxy, tiles, found) & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
        xyxy, found = xyxy[inside], found[inside]
        if self.spec.family.nms and len(found):
            group = found.tile * len(self.labels) + found.label
            kept = nms(xyxy, found.score, group, self._config.iou)
            xyxy, found = xyxy[kept], found[kept]
        xyxy = xyxy.clip(0, np.tile(np.asarray(tiles.frame_wh, np.float32), 2))
        visible = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
        xyxy, found = xyxy[visible], found[visible]
        most = self._config.max_detections or max(1000, _MOST_PER_TILE * self._usual_inputs(tiles))
        if len(found) > most:
            best = np.sort(np.argsort(-found.score, kind="stable")[:most])
            xyxy, found = xyxy[best], found[best]
        truncated = tiles.truncated(xyxy, found.tile)
        rows = Detections.of(xyxy, found.score, found.label, found.tile, truncated)
        if found.mixed is None:
            return rows
        return replace(rows, masks=draw_masks(found.mixed, xyxy, found.tile, tiles))

    def _usual_inputs(self, tiles: TilePlan) -> int:
        """How many tiles of the network's own size hold as much as these, which may be joined ones."""
        wh = self.input.wh or tiles.input_wh
        return len(tiles) * max(1, math.ceil(tiles.input_wh[0] * tiles.input_wh[1] / (wh[0] * wh[1])))


def moved(found: Candidates, by: int) -> Candidates:
    return found if not by else replace(found, tile=found.tile + np.int32(by))


def in_pieces(found: Candidates, tiles: TilePlan) -> Candidates:
    """From the input something was found in to the tile there: whose rectangle holds its middle, cut to that rectangle."""
    if tiles.slot is None or not len(found):
        return found
    row = tiles.rows_at(np.asarray((found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2, np.float32), found.tile)
    found, row = found[row >= 0], row[row >= 0]
    box = tiles.xyxy[row]
    low = tiles.corner[row].astype(np.float32)
    high = low + np.asarray((box[:, 2:] - box[:, :2]) * tiles.scale[row], np.float32)
    xyxy = np.clip(found.xyxy, np.tile(low, 2), np.tile(high, 2))
    return replace(found, xyxy=xyxy.astype(found.xyxy.dtype), tile=row)


def _centre_inside(xyxy: F32, tiles: TilePlan, found: Candidates) -> NDArray[np.bool_]:
    """A box whose middle lies in the padding beside its tile shows nothing."""
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    tile = tiles.xyxy[found.tile]
    return np.asarray(((centre >= tile[:, :2]) & (centre <= tile[:, 2:])).all(axis=1))
