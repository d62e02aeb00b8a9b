"""Source and compiled kernels agree: by their hashes everywhere, by compiling again where nvcc is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from streamdet import fatbin
from streamdet.errors import DependencyError, StartupError


@pytest.mark.parametrize("name", fatbin.KERNELS)
def test_the_fatbin_was_made_from_this_source(name: str) -> None:
    assert fatbin.check(name) is None
    record = json.loads((fatbin.PACKAGE / f"{name}.json").read_text())
    assert record["sass"] == list(fatbin.SASS)
    assert record["ptx"] == list(fatbin.PTX)
    assert int(record["nvcc"].split(".")[0]) >= 13


def test_every_source_has_a_fatbin() -> None:
    sources = {path.relative_to(fatbin.PACKAGE).with_suffix("").as_posix() for path in fatbin.PACKAGE.rglob("*.cu")}
    assert sources == set(fatbin.KERNELS)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for suffix in (".cu", ".fatbin", ".json"):
        shutil.copy(fatbin.PACKAGE / f"tiles/kernel{suffix}", folder)
    monkeypatch.setattr(fatbin, "PACKAGE", tmp_path)
    return folder


def test_a_changed_source_is_noticed(copied: Path) -> None:
    assert fatbin.check("tiles/kernel") is None
    source = copied / "kernel.cu"
    source.write_text(source.read_text().replace("0.75f", "0.76f"))
    said = fatbin.check("tiles/kernel")
    assert said is not None
    assert "python -m streamdet.fatbin build" in said


@pytest.mark.parametrize("damage", ["cut", "byte", "magic", "record", "gone"])
def test_a_damaged_fatbin_is_told_and_never_loaded(damage: str, copied: Path) -> None:
    file, record = copied / "kernel.fatbin", copied / "kernel.json"
    image = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(image[:1000])
    elif damage == "byte":
        image[500] ^= 1
        file.write_bytes(image)
    elif damage == "magic":
        file.write_bytes(b"version https://git-lfs")
    elif damage == "record":
        record.write_text("{")
    else:
        file.unlink()
    with pytest.raises(StartupError, match="install streamdet again"):
        fatbin.read_fatbin("tiles/kernel")
    assert fatbin.check("tiles/kernel") is not None


def test_without_nvcc_building_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DependencyError, match=r"install the CUDA toolkit 13\.0"):
        fatbin.build("tiles/kernel")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not here: the hash is all that can be checked")
@pytest.mark.parametrize("name", fatbin.KERNELS)
def test_nvcc_compiles_the_source_without_a_word(name: str, tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++17", "-O1", "-cubin", "-arch=sm_90", "-Werror", "all-warnings"]
    source = fatbin.PACKAGE / f"{name}.cu"
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "k.cubin"), str(source)],
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""
