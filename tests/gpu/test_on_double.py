"""The tests in on_double/, each file in a process of its own: there libcuda.so.1 is the double, and pycuda the real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from double import build_double, on_double

FOLDER = Path(__file__).resolve().parent / "on_double"


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_double(tmp_path_factory.mktemp("double"))


@pytest.mark.skipif(
    importlib.util.find_spec("pycuda") is None, reason="pycuda is not installed (.ci/pycuda_wheel.sh builds it)"
)
@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("test_*.py")))
def test_on_the_double(file: str, double: Path) -> None:
    done = on_double(double, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(FOLDER / file))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_info_shows_the_gpu(double: Path) -> None:
    done = on_double(double, "-m", "streamdet", "info", DOUBLE_DEVICES="2")
    assert done.returncode == 0
    assert "cuda:0 NVIDIA Double, 1 GB, compute capability 9.0, " in done.stdout
    assert "cuda:1 NVIDIA Double" in done.stdout


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"DOUBLE_INIT": "100"}, "an NVIDIA driver is installed but it sees no GPU (cuInit: CUDA_ERROR_NO_DEVICE)"),
        ({"DOUBLE_CAPABILITY": "61"}, "compute capability 6.1"),
        ({"DOUBLE_DEVICES": "0"}, "no GPU number 0"),
    ],
)
def test_a_run_on_a_driver_of_no_use_is_refused(env: dict[str, str], words: str, double: Path) -> None:
    done = on_double(double, "-m", "streamdet", "run", "demo", "--device", "cuda:0", "--model", "auto", **env)
    assert done.returncode == 3
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
