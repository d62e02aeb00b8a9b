"""Builds the libcuda double, and runs Python with it as *the* libcuda.so.1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import streamdet
from streamdet.fatbin import KERNELS

HERE = Path(__file__).resolve().parent
PACKAGE = Path(streamdet.__file__).resolve().parent


def build_double(folder: Path) -> Path:
    """`folder` with libcuda.so.1 in it: the driver's calls, and all our kernels as host code."""
    objects = []
    for name in KERNELS:  # apart, for each defines helpers of the same names
        objects.append(folder / f"{Path(name).name}.o")
        command = ["g++", "-x", "c++", *_flags(), f"-I{PACKAGE / Path(name).parent}", "-c", "-o", str(objects[-1])]
        subprocess.run([*command, str(PACKAGE / f"{name}.cu")], check=True, timeout=110)
    source = HERE / "libcuda_double.cpp"
    command = ["g++", *_flags(), "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1"), str(source)]
    subprocess.run([*command, *map(str, objects)], check=True, timeout=110)
    return folder


def _flags() -> list[str]:
    return ["-std=c++17", "-O2", "-fPIC", "-ffp-contract=off", "-w", f"-I{HERE}"]


def on_double(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """``python ARGUMENTS`` on a machine whose driver is the double in `folder`."""
    surroundings = os.environ | {"LD_LIBRARY_PATH": str(folder), "STREAMDET_ON_DOUBLE": "1"} | env
    return subprocess.run(
        [sys.executable, *arguments], env=surroundings, capture_output=True, text=True, timeout=115, check=False
    )
