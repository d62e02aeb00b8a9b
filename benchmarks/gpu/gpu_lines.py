"""The sections of a GPU record in words: for the end of `run_all`, and for README's table (benchmarks/readme_tables.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["WANTED", "text"]

WANTED = {
    "kernel_time": "80 % of the copy's",
    "against_composed": "5x",
    "tile_rate": "0.95",
    "correctness": "within one grey level",
    "batteries": "none wrong",
    "motion": "the same regions",
    "precision": "the same objects",
    "memory": "flat",
    "sanitizer": "clean",
}
"""What issue 4 asks for, by section."""


def text(name: str, sections: dict[str, Any]) -> str:
    """One section, measured, in a line."""
    node = sections[name]
    if name == "copy_bandwidth":
        return f"{node['tb_s']:.2f} TB/s read and written"
    if name == "correctness":
        most = max(node["largest_difference"].values())
        return f"off the CPU packer by {most:.2g} at most (limit {node['limit']}): {_word(node['ok'])}"
    if name == "batteries":
        wrong = [*node["pack_wrong"], *node["compact_wrong"], *node["motion_wrong"]]
        count = node["pack_cases"] + node["compact_cases"] + node["motion_cases"]
        return f"{count} cases of packing, reading and motion, {len(wrong)} wrong"
    if name == "kernel_time":
        return _kernel_time(node, sections.get("copy_bandwidth", {}).get("tb_s"))
    if name == "motion":
        ms = node["ms"]
        kernels = f"kernels {node['kernels_ms']['median'] * 1e3:.0f} us"
        differ = f"{node['differing_frames']} of {node['frames']} frames differ"
        return f"{differ}; {ms['gpu']:.2f} ms a frame, {kernels}; the CPU {ms['cpu']:.1f} ms"
    if name == "against_composed":
        ratios = [f"{key.removesuffix('_over_ours')} {node[key]:.1f}x" for key in node if key.endswith("_over_ours")]
        return f"ours {node['ours_ms']['median'] * 1e3:.1f} us; {', '.join(ratios) or 'no rival could be run'}"
    if name == "tile_rate":
        rates = node["tiles_s"]
        return f"{rates['line']:.0f} of the bare model's {rates['bare']:.0f} tiles/s: {node['share']:.3f}"
    if name == "precision":
        return _each(
            node, lambda one: f"{one['found']} of {one['objects']} objects, {one['lost']} lost, {one['new']} new"
        )
    if name == "end_to_end":
        return _each(node, lambda one: f"{one['fps']:.1f} fps")
    if name == "memory":
        grown = ", ".join(f"{key} {value:+.2f}" for key, value in node["grown"].items())
        return f"over {node['frames']} frames {grown}: {_word(node['ok'])}"
    if name == "sanitizer":
        return _each(node, lambda one: _word(one["ok"]) if "ok" in one else "not run")
    return json.dumps(node)[:160]


def _each(node: dict[str, Any], say: Callable[[dict[str, Any]], str]) -> str:
    """What there is to `say` of every part of a section, by its name."""
    return "; ".join(f"{name}: {say(part)}" for name, part in node.items() if isinstance(part, dict))


def _kernel_time(node: dict[str, Any], ceiling: float | None) -> str:
    share = f", {node['tb_s'] / ceiling:.0%} of the copy's" if ceiling else ""
    return f"{node['ms']['median'] * 1e3:.1f} us for {node['tiles']} tiles, {node['tb_s']:.2f} TB/s{share}"


def _word(ok: bool) -> str:
    return "ok" if ok else "NOT OK"
