"""``streamdet build`` on a machine without a GPU, with TensorRT-RTX: a plan, a record, and errors that say what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from streamdet.cli import main

sys.path.append(str(Path(__file__).parent / "detectors"))
from conv_graphs import save_yolo_like

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The end of every command here: plans go to the test's own folder."""
    return ["--set", f"gpu.plans={tmp_path / 'plans'}", "--runtime", "tensorrt-rtx"]


def test_build_writes_a_plan_and_says_where(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_yolo_like(tmp_path / "toy.onnx", batch=1)
    assert main(["build", str(path), "--tiles", "4", "--out", str(tmp_path / "out/toy.plan"), *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["tiles"] == [1, 4]
    assert record["precision"] == "fp16"
    assert record["input_wh"] == [32, 32]
    plan = Path(record["plan"]).read_bytes()
    assert len(plan) == record["bytes"]
    assert (tmp_path / "out/toy.plan").read_bytes() == plan


def test_int8_is_calibrated_on_a_clip_and_compared_on_it(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--set", "source.demo_size=640x360", "--set", "source.demo_seconds=1.5"]
    assert main(["build", "tiny", "--precision", "int8", "--calibrate", "demo", *quick, *words]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    agreement = record["agreement"]
    assert agreement["frames"] > 3
    assert agreement["objects"] == agreement["found"] + agreement["below_threshold"] + agreement["lost"]
    assert "int8 against the model itself" in said.err


def test_half_precision_shows_the_same_objects(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--set", "source.demo_size=640x360", "--set", "source.demo_seconds=2"]
    assert main(["build", "tiny", "--calibrate", "demo", *quick, *words]) == 0
    agreement = json.loads(capsys.readouterr().out)["agreement"]
    assert agreement["objects"] > 10
    assert agreement["lost"] == 0
    assert agreement["new"] == 0
    assert agreement["below_threshold"] <= 0.02 * agreement["objects"]
    assert agreement["score_difference"]["p95"] < 0.01


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["motion"], 2, "has no network to compile"),
        (["nothing.onnx"], 3, "does not exist"),
        (["tiny", "--precision", "int8"], 3, "has to be calibrated once"),
        (["tiny", "--size", "big"], 2, "give px as WxH"),
        (["tiny", "--calibrate", "nowhere.mp4"], 3, "nowhere.mp4"),
        (["tiny", "--tiles", "0"], 2, "gpu.batch"),
        (["tiny", "--out", "/proc/nothing/x.plan"], 3, "cannot write /proc/nothing/x.plan"),
    ],
)
def test_mistakes_are_one_sentence(
    given: list[str], code: int, said: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *given, *words]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error


def test_the_large_tensorrt_is_not_there(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamdet.detectors.tensorrt_import.installed", lambda: ("tensorrt_rtx",))
    assert main(["build", "tiny", *words[:2], "--runtime", "tensorrt"]) == 3
    assert "tensorrt is not installed" in capsys.readouterr().err


def test_the_large_tensorrt_needs_the_gpu_it_compiles_for(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamdet import libcuda

    monkeypatch.setattr("streamdet.detectors.tensorrt_import.installed", lambda: ("tensorrt",))
    monkeypatch.setattr(libcuda, "probe", lambda *_: libcuda.NoGpu("this machine has no NVIDIA driver"))
    assert main(["build", "tiny", *words[:2]]) == 3
    assert "compiles on the GPU it compiles for, and this machine has no NVIDIA driver" in capsys.readouterr().err
