"""The layout is a promise: levels, one door per heavy package, and an import that costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamdet

ROOT = Path(streamdet.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "engines" not in path.relative_to(ROOT).parts)

LEVEL = {
    "types": 0,
    "detections": 0, "protocols": 0, "errors": 0, "inputspec": 0, "arrays": 0, "picture": 0, "tileplan": 0, "event": 0,
    "boxes": 1, "masks": 1, "mailbox": 1, "metrics": 1, "config": 1, "device": 1, "libcuda": 1, "fatbin": 1,
    "frame_graph": 1, "launches": 1,
    "records": 1, "scoring": 1,
    "budget": 1, "notify": 1,
    "sources": 2, "motion": 2, "tiles": 2, "detectors": 2, "merge": 2, "tracking": 2, "rules": 2, "draw": 2, "sinks": 2,
    "coded": 1.5,  # encoded pictures: what recording/ and the sinks of the annotated stream both stand on
    "recording": 2, "media": 4,
    "delivery": 2, "telling": 4,
    "line": 3, "stream": 3, "pipeline": 3,
    "station": 4, "camera": 4, "parts": 4, "enduring": 4,
    "assemble": 4, "places": 4, "service": 4,
    "overlay": 4, "api": 4, "report": 4, "machine": 4, "options": 4, "commands": 4, "cli": 4, "__main__": 4,
    "precision": 4, "gpu": 4, "cluster": 5,
    "tuning": 4,
    "predictor": 4, "image_result": 4, "stills": 4, "upscaling": 4, "looking": 4,
}  # fmt: skip

# heavy package -> the only places that may import it (None: nobody at this time)
DOORS = {
    "av": (
        "sources/",
        "sinks/video.py",
        "sinks/push_worker.py",
        "sinks/hls.py",
        "sinks/segments.py",
        "sinks/broadcast.py",
        "coded/",
        "recording/",
    ),
    "pycuda": ("device.py",),
    "tensorrt": ("detectors/tensorrt",),
    "onnxruntime": ("detectors/onnxruntime",),
    "onnx": ("detectors/onnx", "tuning/"),
    "openvino": ("detectors/openvino",),
    "pypdfium2": ("sources/pdf.py",),
    "pyvips": ("sources/vips.py",),
    "paho": ("delivery/mqtt.py",),
    "confluent_kafka": ("delivery/kafka.py",),
    "psycopg": ("delivery/postgres.py",),
    "starlette": ("service/",),
    "uvicorn": ("service/",),
    "websockets": ("service/",),
    "faster_coco_eval": ("scoring/average_precision.py",),
}


def imports_of(path: Path, *, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_only_from_lower_levels(path: Path) -> None:
    here = part_of(path)
    if here == "__init__":
        return
    assert here in LEVEL, f"{path} has no level: add it to the table or put it where it belongs"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "streamdet" or len(parts) < 2 or parts[1] == here or parts[1] not in LEVEL:
            continue
        if LEVEL[parts[1]] == LEVEL[here] and LEVEL[here] in (0, 1, 3, 4):
            continue
        assert LEVEL[parts[1]] < LEVEL[here], (
            f"{path.name} (level {LEVEL[here]}) imports {name} (level {LEVEL[parts[1]]})"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_heavy_package_has_one_door(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    for name in imports_of(path):
        package = name.split(".")[0]
        for heavy, doors in DOORS.items():
            if package == heavy or package.startswith(f"{heavy}_"):
                assert relative.startswith(doors), f"{relative} imports {package}; only {doors} may"


@pytest.mark.parametrize("path", [p for p in FILES if LEVEL.get(part_of(p), 9) <= 1], ids=lambda path: path.name)
def test_the_lowest_levels_load_only_numpy_and_msgspec(path: Path) -> None:
    allowed = {"numpy", "msgspec", "streamdet", *sys.stdlib_module_names}
    for name in imports_of(path, top_level_only=True):
        assert name.split(".")[0] in allowed, f"{path.name} imports {name} when it is loaded"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_importing_streamdet_loads_nothing_heavy() -> None:
    loaded = run_python(
        "import sys, streamdet;"
        "heavy={'av','cv2','onnxruntime','openvino','scipy','pycuda','tensorrt','yaml','tqdm','starlette','uvicorn'};"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    assert loaded == "[]"


def test_public_names_exist_and_are_all_listed() -> None:
    assert sorted(streamdet.__all__) == streamdet.__all__
    for name in streamdet.__all__:
        assert getattr(streamdet, name) is not None
    assert dir(streamdet) == streamdet.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = streamdet.nonsense


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long, f"past 400 lines a file is two things: {long}"
