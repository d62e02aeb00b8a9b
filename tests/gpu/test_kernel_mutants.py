"""Planted bugs: each must be caught by the battery, or the battery is no good. Run in a process of its own, for some crash."""

# ruff: noqa: E501  (the bugs stand in one line each)

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_battery import fails
from mutants import survives
from shim import PACKAGE, Shim

MUTANTS: dict[str, tuple[str, str]] = {
    "u and v swapped": ("out_u[i] = byte_of(words, 2 * i), out_v[i] = byte_of(words, 2 * i + 1);", "out_v[i] = byte_of(words, 2 * i), out_u[i] = byte_of(words, 2 * i + 1);"),
    "chroma read with the luma's left edge": ("axis.first = half ? low >> 1 : low;", "axis.first = low;"),
    "odd edges forgotten": ("odd = half ? low & 1 : 0", "odd = 0"),
    "half a px off": ("axis.start = size + (odd - 1) * factor * want;", "axis.start = odd * factor * want;"),
    "taps leave the tile": ("clamped(whole, 0, axis.have - 1)", "whole"),
    "weights swapped": ("return first + (second - first) * part;", "return second + (first - second) * part;"),
    "near and far chroma swapped": ("out[i] = 0.75f * window[near] + 0.25f * window[far];", "out[i] = 0.25f * window[near] + 0.75f * window[far];"),
    "chroma window not clamped at the tile": ("max(column - 1, 0)", "column - 1"),
    "chroma window not clamped at the right": ("min(column + RUN / 2, have - 1)", "column + RUN / 2"),
    "area without its fractional end": ("return (i == span.last ? span.reach : 1.0f)", "return 1.0f"),
    "area without its fractional begin": ("- (i == span.first ? span.skip : 0.0f)", "- 0.0f"),
    "area one sample too far": ("min(rest ? to : to - 1, axis.have - 1)", "min(to, axis.have - 1)"),
    "chroma averaged like luma": ("plane.half ? tile.half_area : tile.area", "tile.area"),
    "pitch of the wrong plane": ("(int64_t)y * plane.pitch + (int64_t)x * plane.step;\n    return plane.wide", "(int64_t)y * (plane.pitch + 16 * plane.half) + (int64_t)x * plane.step;\n    return plane.wide"),
    "10 bits read as 16": ("* (1.0f / 256.0f) : (float)__ldg(at)", "* (1.0f / 255.0f) : (float)__ldg(at)"),
    "10 bits, every second sample": ("i % 2 ? 0x7432u : 0x7410u", "0x7410u"),
    "10 bits, u and v swapped": ("out_u[i] = wide_of(words, 2 * i), out_v[i] = wide_of(words, 2 * i + 1);", "out_v[i] = wide_of(words, 2 * i), out_u[i] = wide_of(words, 2 * i + 1);"),
    "channel order": ("out + row.slot * plane_px", "out + r * plane_px"),
    "tile stride": ("(int64_t)blockIdx.y * job->channels * plane_px", "(int64_t)blockIdx.y * job->rows * (plane_px + 1)"),
    "padding not written": ("if (i >= inside) values[i] = row.pad;", "if (i > inside) values[i] = row.pad;"),
    "rows below the tile are not padding": ("y < tile.oh ? min(max(tile.ow - x, 0), RUN) : 0", "min(max(tile.ow - x, 0), RUN)"),
    "no upper clamp": ("values[i] = fminf(fmaxf(values[i], row.low), row.high);", "values[i] = fmaxf(values[i], row.low);"),
    "no lower clamp": ("values[i] = fminf(fmaxf(values[i], row.low), row.high);", "values[i] = fminf(values[i], row.high);"),
    "truncated instead of rounded": ("clamped(__float2int_rn(values[i]), 0, 255)", "clamped((int)values[i], 0, 255)"),
    "last px of a row not written": ("const int count = min(RUN, width - x);", "const int count = min(RUN, width - x - 1);"),
    "wide loads on narrow addresses": ("if (N % 8 == 0 && address % 8 == 0)", "if (N % 8 == 0)"),
    "bytes in the wrong order": ("<< 8 | (uint32_t)__ldg(at + 4 * i + 2) << 16", "<< 16 | (uint32_t)__ldg(at + 4 * i + 2) << 8"),
    "run at the tile's edge read whole": ("&& x + RUN <= tile.ow))", "))"),
    "scaled tiles taken for unscaled ones": ("tile.ow == tile.x2 - tile.x1 &&", "tile.ow >= tile.x2 - tile.x1 &&"),
    "channels last written channels first": ("((int64_t)y * width + x + i) * job->channels + row.slot", "((int64_t)y * width + x + i) + row.slot * plane_px"),
}  # fmt: skip


def _verdict(text: str, folder: str) -> str:
    return fails(Shim("tiles/kernel", Path(folder), text=text, optimise="-O0"))


@pytest.fixture(scope="module", autouse=True)
def _references(tile_kernel: Shim) -> None:
    """Worked out once, before the children are forked; and the source itself must pass."""
    assert fails(tile_kernel) == ""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    text = (PACKAGE / "tiles/kernel.cu").read_text()
    good, bad = MUTANTS[name]
    assert text.count(good) == 1, "the source has changed: plant the bug anew"
    assert not survives(_verdict, text.replace(good, bad), tmp_path)


def test_the_source_itself_survives(tmp_path: Path) -> None:
    assert survives(_verdict, (PACKAGE / "tiles/kernel.cu").read_text(), tmp_path)
