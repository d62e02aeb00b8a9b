"""TensorRT as far as a machine without a GPU goes: TensorRT-RTX really compiles and refuses; plans are kept and mistrusted."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conv_graphs import save_yolo_like

from streamdet.config import GpuConfig
from streamdet.detectors.prepared import model_bytes, prepared
from streamdet.detectors.spec import ModelFile, read_model
from streamdet.detectors.tensorrt_build import Profile, build_plan, profile_of
from streamdet.detectors.tensorrt_compile import compiled, key_of
from streamdet.detectors.tensorrt_import import TensorRt, import_trt
from streamdet.detectors.tensorrt_plans import Key, PlanCache, plan_folder
from streamdet.errors import DependencyError, ModelError
from streamdet.libcuda import Gpu

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")
KEY = Key("aa", "tensorrt 10.9", "NVIDIA X", "8.9", "580.1", "fp16", "1-32 images:3x32x32")
GPU = Gpu(0, "NVIDIA X", (8, 9), (13, 0), "580.1", 8 << 30, 100)


@pytest.fixture(scope="module")
def trt() -> TensorRt:
    return import_trt("tensorrt_rtx")


@pytest.fixture
def toy(tmp_path: Path) -> ModelFile:
    return read_model(save_yolo_like(tmp_path / "toy.onnx"))


# ---------------------------------------------------------------------------------------------------------------- build


def test_a_model_is_compiled_for_1_to_t_tiles_with_progress(trt: TensorRt, toy: ModelFile) -> None:
    told: list[tuple[float, str]] = []
    profile = profile_of(toy, tiles=8, wh=(32, 32), channels=3)
    assert (profile.least, profile.most, profile.inputs) == (1, 8, (("images", (3, 32, 32)),))
    built = build_plan(
        trt, model_bytes(toy), profile, name="toy", told=lambda share, phase: told.append((share, phase))
    )
    assert len(built.plan) > 1000
    assert told[-1][0] == 1.0
    assert all(0 <= share <= 1 for share, _ in told)
    assert any("uild" in phase for _, phase in told)


def test_a_listener_that_fails_stops_the_build_and_nothing_else(trt: TensorRt, toy: ModelFile) -> None:
    def failing(share: float, phase: str) -> None:
        raise KeyboardInterrupt

    profile = profile_of(toy, tiles=2, wh=(32, 32), channels=3)
    with pytest.raises(KeyboardInterrupt):
        build_plan(trt, model_bytes(toy), profile, name="toy", told=failing)


def test_what_is_no_model_is_refused_in_one_sentence(trt: TensorRt) -> None:
    with pytest.raises(
        ModelError, match=r"TensorRT-RTX .* cannot compile the model toy: .*; use --backend onnxruntime"
    ):
        build_plan(trt, b"nonsense", Profile(1, 1, ()), name="toy")


def test_an_input_the_profile_does_not_know_is_refused(trt: TensorRt, toy: ModelFile) -> None:
    with pytest.raises(ModelError, match="do not fit its inputs"):
        build_plan(trt, model_bytes(toy), Profile(1, 4, (("other", (3, 32, 32)),)), name="toy")


def test_a_size_the_file_does_not_take_is_refused(trt: TensorRt, toy: ModelFile) -> None:
    with pytest.raises(ModelError, match="cannot compile the model toy"):
        build_plan(trt, model_bytes(toy), Profile(1, 4, (("images", (3, 64, 64)),)), name="toy")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_fixed_batch_is_freed_and_then_compiled(trt: TensorRt, tmp_path: Path, precision: str) -> None:
    file = read_model(save_yolo_like(tmp_path / "fixed.onnx", batch=1, folded=True))
    copy = prepared(file, precision=precision, folder=tmp_path / "c")  # type: ignore[arg-type]
    profile = profile_of(copy, tiles=16, wh=(32, 32), channels=3)
    assert (profile.least, profile.most) == (1, 16)
    assert build_plan(trt, model_bytes(copy), profile, name="fixed").plan


@pytest.mark.parametrize(
    "name", ["yolox_nano_416_coco", "nanodet_m_416_coco", "fastestdet_352_coco", "deimv2_atto_320_coco"]
)
def test_real_exports_compile_in_half_precision(trt: TensorRt, shared_data: Path, tmp_path: Path, name: str) -> None:
    file = read_model(shared_data / "models" / f"{name}.onnx")
    copy = prepared(file, precision="fp16", folder=tmp_path)
    profile = profile_of(copy, tiles=32, wh=(int(name.split("_")[2]),) * 2, channels=3) if "deim" in name else None
    profile = profile or profile_of(copy, tiles=32, wh=_wh(file), channels=3)
    assert build_plan(trt, model_bytes(copy), profile, name=name).plan


def _wh(file: ModelFile) -> tuple[int, int]:
    _, _, height, width = file.picture.shape
    assert height is not None
    assert width is not None
    return width, height


# ---------------------------------------------------------------------------------------------------------------- plans


def test_a_plan_is_found_again_and_only_by_its_own_key(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "plans")
    assert cache.find("toy", KEY) is None
    cache.keep("toy", KEY, b"plan" * 100)
    assert cache.find("toy", KEY) == b"plan" * 100
    for change in ("model", "runtime", "gpu", "capability", "driver", "precision", "profile"):
        other = Key(**{**{name: getattr(KEY, name) for name in Key.__dataclass_fields__}, change: "other"})
        assert cache.find("toy", other) is None
        assert cache.path("toy", other) != cache.path("toy", KEY)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(bytes(content))


def no_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{half")


def another_key(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    record["key"]["driver"] = "470"
    path.with_suffix(".json").write_text(json.dumps(record))


@pytest.mark.parametrize("harm", [truncate, flip, no_json, another_key])
def test_a_damaged_plan_is_told_and_built_again(
    tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache = PlanCache(tmp_path)
    cache.keep("toy", KEY, b"the plan as it was built")
    harm(cache.path("toy", KEY))
    with caplog.at_level(logging.WARNING):
        assert cache.get_or_build("toy", KEY, lambda: b"new") == b"new"
    assert "is not used" in caplog.text
    assert cache.find("toy", KEY) == b"new"


def test_a_folder_that_cannot_be_written_costs_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PlanCache(tmp_path / "file" / "plans")
    with caplog.at_level(logging.WARNING):
        assert cache.get_or_build("toy", KEY, lambda: b"new") == b"new"
    assert "cannot be kept" in caplog.text


def test_a_build_that_fails_leaves_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)

    def failing() -> bytes:
        raise ModelError("no")

    with pytest.raises(ModelError):
        cache.get_or_build("toy", KEY, failing)
    assert cache.get_or_build("toy", KEY, lambda: b"new") == b"new"
    assert not list(tmp_path.glob("*.tmp"))


BUILDER = """
import sys, time
from pathlib import Path
from streamdet.detectors.tensorrt_plans import Key, PlanCache
cache, log = PlanCache(Path(sys.argv[1])), Path(sys.argv[2])
def build():
    with log.open("a") as handle: handle.write("built\\n")
    time.sleep(1.0)
    return b"plan"
assert cache.get_or_build("toy", Key(*"abcdefg"), build) == b"plan"
"""


def test_two_processes_build_a_plan_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", BUILDER, str(tmp_path / "plans"), str(tmp_path / "log")]
    running = [subprocess.Popen(words) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_builder_does_not_lock_out_the_next(tmp_path: Path) -> None:
    words = [sys.executable, "-c", BUILDER.replace("1.0", "60"), str(tmp_path / "plans"), str(tmp_path / "log")]
    process = subprocess.Popen(words)
    waiting = threading.Event()
    for _ in range(300):
        if (tmp_path / "log").exists():
            break
        waiting.wait(0.1)
    process.kill()
    process.wait(timeout=30)
    key = Key(*"abcdefg")
    assert PlanCache(tmp_path / "plans").get_or_build("toy", key, lambda: b"mine") == b"mine"


def test_where_plans_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (tmp_path / "checkout/.git").mkdir(parents=True)
    (tmp_path / "checkout/engines").mkdir()
    (tmp_path / "site/streamdet/engines").mkdir(parents=True)
    assert plan_folder(None, tmp_path / "checkout/engines") == tmp_path / "checkout/engines/cache"
    assert plan_folder(None, tmp_path / "site/streamdet/engines") == tmp_path / "user/streamdet/plans"
    assert plan_folder("/somewhere", tmp_path / "checkout/engines") == Path("/somewhere")


# ------------------------------------------------------------------------------------------------------ both, and the door


def test_the_second_start_compiles_nothing(
    trt: TensorRt, toy: ModelFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, profile = PlanCache(tmp_path / "plans"), profile_of(toy, tiles=4, wh=(32, 32), channels=3)
    with caplog.at_level(logging.WARNING):
        first, key = compiled(trt, toy, profile, name="toy", cache=cache, config=GpuConfig(), gpu=None)
        assert "compiling toy" in caplog.text
        caplog.clear()
        again, _ = compiled(trt, toy, profile, name="toy", cache=cache, config=GpuConfig(), gpu=None)
        assert again == first
        assert not caplog.records
        compiled(trt, toy, profile, name="toy", cache=cache, config=GpuConfig(), gpu=None, anew=True)
        assert "does not take it" in caplog.text
    assert key.gpu == "any"


def test_a_plan_of_the_large_tensorrt_belongs_to_one_gpu(trt: TensorRt) -> None:
    large = trt._replace(flavour="tensorrt", version="10.9.0")
    key = key_of(large, b"model", Profile(1, 2, ()), precision="fp16", gpu=GPU)
    assert (key.gpu, key.capability, key.driver) == ("NVIDIA X", "8.9", "580.1")
    assert key_of(trt, b"model", Profile(1, 2, ()), precision="fp16", gpu=GPU).gpu == "any"


def test_what_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdet.detectors.tensorrt_import.installed", lambda: ())
    import_trt.cache_clear()
    with pytest.raises(DependencyError, match=r"TensorRT is not installed; run `pip install 'streamdet\[tensorrt\]'`"):
        import_trt()
    import_trt.cache_clear()
