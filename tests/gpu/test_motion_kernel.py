"""The motion pass against the motion model's own parts: block maxima, background, samples, and what is fetched of a frame."""

from __future__ import annotations

from pathlib import Path

import pytest
from motion_battery import CASES, wrong
from mutants import survives
from shim import PACKAGE, Shim


@pytest.fixture(scope="session")
def motion_kernel(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim("tiles/motion", tmp_path_factory.mktemp("motion"))


@pytest.mark.parametrize("name", CASES)
def test_as_the_motion_model_has_it(name: str, motion_kernel: Shim) -> None:
    check, arguments = CASES[name]
    check(*arguments, motion_kernel)


MUTANTS = {
    "background moves by one level too many": ("max(max(old - levels, 0)", "max(max(old - levels - 1, 0)"),
    "background learns from this frame": (
        "min(min(old + levels, 255), (int)before)",
        "min(min(old + levels, 255), (int)now)",
    ),
    "frozen blocks learn too": ("m.frozen[block] ? 0 : m.levels", "m.levels"),
    "stripes of half the height": ("top / (4 * BLOCK_PX)", "top / (2 * BLOCK_PX) % 2"),
    "difference to the background as it was": ("abs((int)now - (int)background)", "abs((int)now - old)"),
    "blocks at the right read whole": ("const bool whole = wide == BLOCK_PX &&", "const bool whole ="),
    "blocks at the bottom read whole": ("wide == BLOCK_PX && bottom - top == BLOCK_PX &&", "wide == BLOCK_PX &&"),
    "rows beyond the last": ("bottom = min(top + BLOCK_PX, m.height)", "bottom = top + BLOCK_PX"),
    "what was learnt is not kept": (
        "if (levels) *(uint4*)(background",
        "if (levels > 1000) *(uint4*)(background",
    ),
    "healed from this frame": (
        "m.before[(int64_t)y * m.pitch_before + x];",
        "m.now[(int64_t)y * m.pitch_now + x];",
    ),
    "only the first px are healed": (
        "i < m.heals; i += gridDim.x * blockDim.x",
        "i < min(m.heals, 200); i += gridDim.x * blockDim.x",
    ),
    "the grid begins at the corner": ("x = m.grid_first + (int64_t)column", "x = (int64_t)column"),
    "the background's sample over this frame's": ("m.sample[m.grid_rows * m.grid_columns + at]", "m.sample[at]"),
    "the limit itself is active": ("m.away[y * columns + x] > m.limit", "m.away[y * columns + x] >= m.limit"),
    "neighbours above are left out": ("for (int y = max(row - 1, 0)", "for (int y = row"),
    "listed beyond the room": ("if (slot < m.room) m.listed", "m.listed"),
    "planes in another order": ("which == 0 ? m.now : which == 1 ? m.before", "which == 0 ? m.before : which == 1 ? m.now"),
    "px beyond the right edge": ("y < m.height ? min(m.width - x, BLOCK_PX) : 0", "y < m.height ? BLOCK_PX : 0"),
    "rows beyond the bottom": ("y < m.height ? min(m.width - x, BLOCK_PX) : 0", "min(m.width - x, BLOCK_PX)"),
    "unaligned rows by wide loads": ("have == BLOCK_PX && (uintptr_t)from % 16 == 0", "have == BLOCK_PX"),
    "chroma of the next px": ("level_of(chroma, x / 2 * 2, p.wide)", "level_of(chroma, x, p.wide)"),
    "chroma row of the luma": ("(int64_t)(y / 2) * p.pitch_chroma", "(int64_t)(y / 2) * p.pitch_luma"),
    "points beyond the last": ("if (i >= p.count) return;", "if (i > p.count) return;"),
    "points of ten bits are cut": ("row)[sample] + 128) >> 8", "row)[sample]) >> 8"),
    "ten bits are cut": ("from)[x] + 128) >> 8", "from)[x] + 0) >> 8"),
    "the brightest wraps": ("from)[x] + 128) >> 8, 255)", "from)[x] + 128) >> 8, 256) & 255"),
}  # fmt: skip


def _verdict(text: str, folder: str) -> str:
    shim = Shim("tiles/motion", Path(folder), text=text, optimise="-O0")
    return next((f"{name}: {said}" for name, said in wrong(shim, slow=False)), "")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    text = (PACKAGE / "tiles/motion.cu").read_text()
    good, bad = MUTANTS[name]
    assert text.count(good) == 1, "the source has changed: plant the bug anew"
    assert not survives(_verdict, text.replace(good, bad), tmp_path)


def test_the_source_itself_survives(tmp_path: Path) -> None:
    assert survives(_verdict, (PACKAGE / "tiles/motion.cu").read_text(), tmp_path)
