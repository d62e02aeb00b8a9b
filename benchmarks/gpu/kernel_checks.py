"""The tests' own batteries on a real GPU: every case of packing and of reading answers, against float64 and the decoders.

The kernels get the addresses of page-locked host memory, which a GPU reads and writes where it is; so the cases are the very ones
that g++ runs in the tests (tests/gpu). Fresh random input, output poisoned before, every element compared.

    python benchmarks/gpu/kernel_checks.py [cuda:0]
    compute-sanitizer --tool memcheck python benchmarks/gpu/kernel_checks.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "gpu")]

import compact_battery  # noqa: E402
import kernel_battery  # noqa: E402
import motion_battery  # noqa: E402
import shim  # noqa: E402

from streamdet.device import Device  # noqa: E402
from streamdet.errors import StreamdetError  # noqa: E402

__all__ = ["battery"]


class OnCard:
    """As `shim.Shim`, on the GPU."""

    def __init__(self, device: Device, fatbin: str) -> None:
        self._device = device
        self._fatbin = fatbin

    def launch(self, kernel: str, grid: tuple[int, int, int], block: int, *arrays: NDArray[Any]) -> None:
        pointers = [array.ctypes.data for array in arrays]
        self._device.kernel(self._fatbin, kernel)(grid, (block, 1, 1), *pointers)
        self._device.synchronize()


def battery(name: str = "cuda:0") -> dict[str, Any]:
    """Cases run, those that failed (with by how much), and the largest error of packing in grey levels."""
    usual = shim.allocator
    with Device(name) as device:
        shim.allocator = lambda size, align: device.pinned((max(size, 1),), np.uint8)[:size]
        try:
            pack, compact = _pack(OnCard(device, "tiles/kernel")), _compact(OnCard(device, "detectors/compact"))
            wrong = dict(motion_battery.wrong(OnCard(device, "tiles/motion")))
            return pack | compact | {"motion_cases": len(motion_battery.CASES), "motion_wrong": wrong}
        finally:
            shim.allocator = usual


def _pack(card: Any) -> dict[str, Any]:
    errors = {str(case): kernel_battery.worst(*kernel_battery.run_case(card, case)) for case in kernel_battery.cases()}
    wrong = {case: error for case, error in errors.items() if not error <= kernel_battery.LEVELS}
    finite = [error for error in errors.values() if np.isfinite(error)]
    return {"pack_cases": len(errors), "pack_wrong": wrong, "pack_largest_error_levels": max(finite, default=None)}


def _compact(card: Any) -> dict[str, Any]:
    wrong = {}
    for case in compact_battery.cases():
        raw, layout = compact_battery.answers(case)
        found, _ = compact_battery.compacted(card, raw, layout, case.floor)
        want = compact_battery.decoded(raw, layout, case.floor)
        said = compact_battery.difference(compact_battery.rows_of(found, layout), want)
        if said:
            wrong[str(case)] = said
    return {"compact_cases": len(compact_battery.cases()), "compact_wrong": wrong}


if __name__ == "__main__":
    try:
        record = battery(*sys.argv[1:2])
    except StreamdetError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
    print(json.dumps(record, indent=1))
    raise SystemExit(1 if record["pack_wrong"] or record["compact_wrong"] or record["motion_wrong"] else 0)
