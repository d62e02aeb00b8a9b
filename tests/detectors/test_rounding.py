"""Half the digits are taken only where the objects stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from focus_graphs import save_focus

from streamdet.config import ModelConfig
from streamdet.detectors import choose as choosing
from streamdet.detectors import measure as measuring
from streamdet.detectors.backend import Data
from streamdet.detectors.choose import Choice, choose
from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend
from streamdet.detectors.openvino_backend import installed
from streamdet.detectors.rounding import drawn_scene, fed, why_not_rounded
from streamdet.detectors.sniff import noise, sniff
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.inputspec import InputSpec
from streamdet.types import F32


@pytest.fixture
def file(tmp_path: Path) -> ModelFile:
    (tmp_path / "m.toml").write_text('decoder = "yolox"\nstrides = [8]\nlabels = ["ball", "bird"]\n')
    return read_model(save_focus(tmp_path / "m.onnx"))


def bfloat16(values: F32) -> F32:
    """Rounded to 8 bits, as the processor does it."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)


class Changed(OnnxRuntimeBackend):
    """Answers changed on their way out."""

    def __init__(self, file: ModelFile, change: Any) -> None:
        super().__init__(file, threads=1)
        self._change = change

    def infer(self, data: Data) -> Any:
        for first, rows, raw in super().infer(data):
            yield first, rows, {name: self._change(np.array(array)) for name, array in raw.items()}


def px(rows: F32) -> F32:
    """Boxes of a few hundred px and sure scores, from whatever the toy says."""
    cell = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2)
    made = rows.copy()
    made[..., :2] = 300 + cell * 8 + np.tanh(rows[..., :2])
    made[..., 2:4] = 30 + 10 * np.tanh(rows[..., 2:4])
    made[..., 4:] = 0.5 + 0.3 * np.tanh(rows[..., 4:])
    return made


def test_rounded_coordinates_are_noticed(file: ModelFile) -> None:
    with Changed(file, px) as exact, Changed(file, lambda rows: bfloat16(px(rows))) as rounded:
        sample = next(dict(raw) for _, _, raw in exact.infer(noise(file)))
        spec = sniff(file, sample)
        assert spec.layout.decoded
        assert "px" in why_not_rounded(spec, exact, rounded)
        assert why_not_rounded(spec, exact, exact) == ""


def test_rounded_offsets_of_cells_are_borne(file: ModelFile) -> None:
    """YOLOX's own files: at most a few cells from each cell, so 8 bits are a small share of a px."""

    def offsets(rows: F32) -> F32:
        made = px(rows)
        made[..., :2], made[..., 2:4] = np.tanh(rows[..., :2]), 1.2 + 0.3 * np.tanh(rows[..., 2:4])
        return made

    with Changed(file, offsets) as exact, Changed(file, lambda rows: bfloat16(offsets(rows))) as rounded:
        spec = sniff(file, next(dict(raw) for _, _, raw in exact.infer(noise(file))))
        assert not spec.layout.decoded
        assert why_not_rounded(spec, exact, rounded) == ""


def test_lost_rows_and_changed_scores_are_noticed(file: ModelFile) -> None:
    def halved(rows: F32) -> F32:
        made = px(rows)
        made[..., 4] *= 0.8
        return made

    def gone(rows: F32) -> F32:
        made = px(rows)
        made[:, ::8, 4] = 0
        return made

    with Changed(file, px) as exact, Changed(file, halved) as low, Changed(file, gone) as lost:
        spec = sniff(file, next(dict(raw) for _, _, raw in exact.infer(noise(file))))
        assert "scores change" in why_not_rounded(spec, exact, low)
        assert "rows are lost" in why_not_rounded(spec, exact, lost)


def test_scenes_are_always_the_same_and_move() -> None:
    first, again, later = drawn_scene((96, 64), 1), drawn_scene((96, 64), 1), drawn_scene((96, 64), 1, -1)
    assert first.shape == (64, 96, 3)
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - later).max() > 50
    spec = InputSpec(channels=("r", "g", "b", "difference", "background_difference", "y[-2]"), batch=2)
    data = fed(spec, (96, 64), 1)
    assert data.shape == (2, 6, 64, 96)
    assert data.dtype == np.float32
    assert np.abs(data[0, 3]).max() > 0.5
    assert fed(InputSpec(dtype="uint8", layout="nhwc"), (96, 64), 1).shape == (1, 64, 96, 3)


@pytest.mark.skipif(not installed(), reason="openvino is not installed")
def test_precision_is_chosen_once_by_what_the_network_bears(
    file: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any processor: OpenVINO takes bf16 as a hint, and one without it computes in fp32."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "arithmetic_here", lambda: "bf16")
    config = ModelConfig(backend="openvino", threads=1)
    assert choose(ModelConfig(backend="openvino", threads=1, precision="fp32"), file) == Choice("openvino", "fp32")
    monkeypatch.setattr(measuring, "why_not_rounded", lambda *_: "boxes move")
    assert choose(config, file) == Choice("openvino", "fp32")
    monkeypatch.setattr(measuring, "why_not_rounded", lambda *_: "")
    assert choose(config, file) == Choice("openvino", "fp32"), "remembered"
    monkeypatch.setattr(choosing, "_EDITION", 99)
    assert choose(config, file) == Choice("openvino", "bf16"), "a stale memory is measured again"
    chosen = choose(ModelConfig(threads=1), file)
    assert chosen.arithmetic == "bf16"
    assert choose(ModelConfig(threads=1, precision="fp32"), file).arithmetic == "fp32"
