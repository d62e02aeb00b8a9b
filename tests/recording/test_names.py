"""Names any file system takes, and a way back from an address to a file that nobody can lead astray."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamdet.recording.names import address_of, media_file, media_type, safe_name


@given(st.text(max_size=300))
@example("CON")
@example("..")
@example("")
@example("../../etc/passwd")
@example("Hof \u00fc\u00df 1/2\x00")
def test_a_safe_name_is_safe(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}", name)
    assert name.lower().split("-")[0] not in {"con", "nul", "aux"} or "-" in name


@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
@example(["a b", "a-b", "a/b", "A-B", "court", "Court", "x" * 70, "x" * 71])
def test_two_texts_never_share_a_name(texts: list[str]) -> None:
    assert len({safe_name(text) for text in texts}) == len(texts)


def test_a_plain_name_stays_what_it_is() -> None:
    assert safe_name("Court-2_north") == "Court-2_north"


def test_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "2026-11-25" / "court" / "133134.250-ball-17.mp4"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    address = address_of(tmp_path, file)
    assert address == "media/2026-11-25/court/133134.250-ball-17.mp4"
    for spelling in (address, f"{address}#t=5.04", f"/{address}", address.removeprefix("media/"), f"{address}?x=1"):
        assert media_file(tmp_path, spelling) == file
    assert media_type(file) == "video/mp4"
    assert media_file(tmp_path, "media/2026-11-25/court/133134.250-ball-18.mp4") is None


@pytest.mark.parametrize(
    "address",
    [
        "media/../secret.mp4",
        "../secret.mp4",
        "media/2026/../../secret.mp4",
        "//secret.mp4",
        "media//etc/passwd",
        "/etc/passwd",
        "media/..%2fsecret.mp4",
        "media/%2e%2e/secret.mp4",
        "media/..\\secret.mp4",
        "C:\\secret.mp4",
        "media/link/secret.mp4",
        "media/out.mp4",
        "media/.hidden.mp4",
        "media/part.mp4.part",
        "media/favourites.txt",
        "media/folder.mp4",
        "media/a\0.mp4",
        "media/a\n.mp4",
        "media/",
        "",
        "media/" + "a/" * 40 + "a.mp4",
        "media/" + "a" * 5000 + ".mp4",
    ],
)
def test_nobody_is_led_astray(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "clips"
    (folder / "folder.mp4").mkdir(parents=True)
    (tmp_path / "secret.mp4").write_bytes(b"x")
    for name in (".hidden.mp4", "part.mp4.part", "favourites.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path)
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    assert media_file(folder, address) is None
