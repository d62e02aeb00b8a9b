"""The compiled kernels in the package: which sources they were made from, and how to make them again.

``python -m streamdet.fatbin build`` compiles every ``.cu`` with nvcc (13.0 or newer) for all GPUs from Turing on, plus PTX for
those to come; ``check`` says whether sources and fatbins agree, with no nvcc needed. Users need neither: the fatbins are in
the wheel.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from streamdet.errors import DependencyError, StartupError, StreamdetError

__all__ = ["KERNELS", "SASS", "build", "check", "read_fatbin", "source_hash"]

PACKAGE = Path(__file__).resolve().parent
KERNELS: tuple[str, ...] = ("tiles/kernel", "tiles/motion", "detectors/compact")
SASS = (75, 80, 86, 89, 90, 100, 120)  # one for each generation; within it newer GPUs run older code
PTX = (75, 120)
_FLAGS = ("-std=c++17", "-O3", "--fatbin", "-t", "2", "-compress-mode=size")
_MAGIC = b"\x50\xed\x55\xba"


def read_fatbin(name: str) -> bytes:
    """The bytes of ``<name>.fatbin``. Raises StartupError if it is missing or is not what its record says."""
    path = PACKAGE / f"{name}.fatbin"
    try:
        image = path.read_bytes()
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartupError(f"the compiled kernels {path} cannot be read ({error}); install streamdet again") from None
    if not image.startswith(_MAGIC) or _sha(image) != record.get("fatbin_sha256"):
        raise StartupError(f"the compiled kernels {path} are damaged; install streamdet again")
    return image


def source_hash(name: str) -> str:
    """Of ``<name>.cu`` and the headers of ours that it includes, and of the flags."""
    digest = hashlib.sha256(" ".join(_arguments()).encode())
    for path in _sources(PACKAGE / f"{name}.cu"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def check(name: str) -> str | None:
    """Why the fatbin is not that of today's source, or None."""
    try:
        read_fatbin(name)
    except StartupError as error:
        return str(error)
    record = json.loads((PACKAGE / f"{name}.json").read_text(encoding="utf-8"))
    if record["source_sha256"] != source_hash(name):
        return f"{name}.cu has changed since {name}.fatbin was made; run: python -m streamdet.fatbin build"
    return None


def build(name: str) -> dict[str, object]:
    """Compile ``<name>.cu`` and write the fatbin and its record. Raises DependencyError (no nvcc), StartupError (it fails)."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise DependencyError(
            "the kernels are compiled with nvcc, which is not on the PATH; install the CUDA toolkit 13.0"
        )
    source = PACKAGE / f"{name}.cu"
    target = source.with_suffix(".fatbin")
    command = [nvcc, *_arguments(), "-o", target.name, source.name]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise StartupError(f"nvcc cannot compile {source}: {done.stderr.strip()[:2000]}")
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    match = re.search(r"V(\d+\.\d+\.\d+)", version)
    record = {
        "source_sha256": source_hash(name),
        "fatbin_sha256": _sha(target.read_bytes()),
        "nvcc": match[1] if match else "",
        "sass": list(SASS),
        "ptx": list(PTX),
    }
    source.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _arguments() -> list[str]:
    targets = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in SASS]
    return [*_FLAGS, *targets, *(f"-gencode=arch=compute_{sm},code=compute_{sm}" for sm in PTX)]


def _sources(path: Path) -> list[Path]:
    """`path` and what it includes from its own folder, in order, each once."""
    found = [path]
    for file in found:
        for name in re.findall(r'^\s*#include "([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE):
            header = file.parent / name
            if header.is_file() and header not in found:
                found.append(header)
    return found


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(arguments: list[str]) -> int:
    if arguments not in (["build"], ["check"]):
        sys.stderr.write("usage: python -m streamdet.fatbin build|check\n")
        return 2
    try:
        for name in KERNELS:
            said = check(name) if arguments == ["check"] else build(name) and None
            sys.stderr.write(f"{name}: {said or 'ok'}\n")
            if said:
                return 1
    except StreamdetError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
