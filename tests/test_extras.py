"""`pip install .` stays light: nothing of NVIDIA's comes with it, and what does is behind an extra that says so."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

HEAVY = ("cuda", "nvidia", "tensorrt", "onnxruntime-gpu", "cupy", "torch", "pycuda", "pynvvideocodec")


def requirements(extra: str | None) -> list[str]:
    """Of the wheel's own metadata: the names required by `extra`, or (None) by everybody."""
    names = []
    for line in importlib.metadata.requires("streamdet") or []:
        name = re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0].lower()
        belongs = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        if (belongs[1] if belongs else None) == extra:
            names.append(name)
    return names


def test_the_plain_install_pulls_nothing_for_gpus() -> None:
    plain = requirements(None)
    assert "numpy" in plain
    assert [name for name in plain if any(word in name for word in HEAVY)] == []


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [("cuda", {"pycuda"}), ("tensorrt", {"tensorrt-cu13", "pycuda"}), ("tensorrt-rtx", {"tensorrt-rtx", "pycuda"})],
)
def test_each_gpu_extra_brings_what_it_is_called_after(extra: str, wanted: set[str]) -> None:
    assert wanted <= set(requirements(extra))
