"""`--backend auto`: measured once, remembered, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_graphs import save_constant, save_identity

from streamdet.config import ModelConfig
from streamdet.detectors import choose as choosing
from streamdet.detectors.choose import Choice, choose, thread_count
from streamdet.detectors.measure import measure
from streamdet.detectors.network import open_detector
from streamdet.detectors.openvino_backend import OpenVinoBackend
from streamdet.detectors.sniff import noise
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.errors import DependencyError

needs_openvino = pytest.mark.skipif(not choosing.installed(), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "streamdet" / "backends.json"


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return read_model(save_constant(tmp_path / "m.onnx", {"o": np.zeros((6, 84), np.float32)}))


@needs_openvino
def test_measured_once_then_remembered(model: ModelFile, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose(ModelConfig(threads=1), model)
    record = json.loads(cache.read_text())
    assert len(record) == 1
    assert next(iter(record.values()))["backend"] == first.backend

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(choosing, "measure", never)
    assert choose(ModelConfig(threads=1), model) == first
    with pytest.raises(AssertionError, match="measured again"):
        choose(ModelConfig(threads=2), model)


@needs_openvino
@pytest.mark.parametrize("content", ["", "not json", "[1, 2]", '{"a": 3}'])
def test_a_damaged_memory_is_replaced(model: ModelFile, cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert choose(ModelConfig(threads=1), model).backend in ("onnxruntime", "openvino")
    assert all(isinstance(entry, dict) for entry in json.loads(cache.read_text()).values())


@needs_openvino
def test_an_unwritable_memory_is_no_error(model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose(ModelConfig(threads=1), model).backend in ("onnxruntime", "openvino")


def test_without_openvino_nothing_is_measured(model: ModelFile, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "installed", lambda: False)
    assert choose(ModelConfig(), model) == Choice("onnxruntime")
    assert not cache.exists()


def test_openvino_asked_for_but_missing(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdet.detectors.openvino_backend.installed", lambda: False)
    with pytest.raises(DependencyError, match=r"pip install 'streamdet\[openvino\]'"):
        open_detector(ModelConfig(backend="openvino"), model.path).__enter__()


@needs_openvino
def test_a_runtime_that_answers_differently_is_not_taken(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"o": np.ones((1, 6, 84), np.float32)}
    monkeypatch.setattr(OpenVinoBackend, "infer", lambda _, data: ((row, 1, answers) for row in range(len(data))))
    record = measure(model, 1, exact=True)
    assert record["backend"] == "onnxruntime"
    assert record["why"].startswith("openvino gives other numbers: ")


@needs_openvino
def test_a_runtime_that_cannot_run_the_model_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(save_identity(tmp_path / "m.onnx", wh=(32, 32), channels=3))
    from streamdet.errors import ModelError

    def refuse(*_: Any) -> Any:
        raise ModelError("no such operator")

    monkeypatch.setattr(OpenVinoBackend, "_compile", refuse)
    record = measure(model, 1)
    assert record["backend"] == "onnxruntime"
    assert "no such operator" in record["why"]


def test_threads_asked_for_win() -> None:
    assert thread_count(ModelConfig(threads=3)) == 3
    assert thread_count(ModelConfig()) >= 1


@needs_openvino
def test_openvino_tells_nobody(model: ModelFile) -> None:
    code = (
        "import sys; from streamdet.detectors.openvino_backend import OpenVinoBackend; "
        "from streamdet.detectors.spec import read_model; "
        f"OpenVinoBackend(read_model({str(model.path)!r}), threads=1).__enter__(); "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_onnxruntime_tells_nobody(model: ModelFile, tmp_path: Path) -> None:
    """Its builds for Linux send telemetry from 1.29 on and keep an identifier in the cache folder; not where CI is set."""
    code = (
        "from streamdet.detectors.onnxruntime_backend import OnnxRuntimeBackend; "
        "from streamdet.detectors.spec import read_model; "
        f"OnnxRuntimeBackend(read_model({str(model.path)!r}), threads=1).__enter__()"
    )
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    quiet = {name: value for name, value in quiet.items() if not name.startswith(("GITHUB_", "PYTEST"))}
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", code], env=quiet | {"XDG_CACHE_HOME": str(home), "HOME": str(home)}, check=True
    )
    assert not list(home.rglob("*"))


@needs_openvino
def test_openvino_runs_where_its_cache_cannot_be_written(model: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with OpenVinoBackend(model, threads=1, cache=tmp_path / "file" / "openvino") as backend:
        assert len(list(backend.infer(noise(model)))) == 1


def test_a_user_without_a_home_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's random user id: no HOME, and nobody of that name."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert choosing.cache_dir().is_dir()
    assert choosing.cache_dir() == choosing.cache_dir()
