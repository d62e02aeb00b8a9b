"""One typed tree: a mistake is one sentence with the path of the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamdet.config import Config, json_schema, load, to_yaml, with_values
from streamdet.errors import ConfigError, redact


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_camera_may_be_called_by_a_number(tmp_path: Path) -> None:
    assert load(write(tmp_path, "cameras: {1: {source: x}}")).cameras["1"].source == "x"


def test_merged_keys_are_no_twins(tmp_path: Path) -> None:
    cameras = load(write(tmp_path, "cameras: {a: &a {source: x, fps: 5}, b: {<<: *a, fps: 3}}")).cameras
    assert [(camera.source, camera.fps) for camera in cameras.values()] == [("x", 5), ("x", 3)]


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    config = with_values(Config(), {"sources": ["a.mp4"], "tiles.look": "all", "model.conf": {"ball": 0.4}})
    assert load(write(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiles: {lok: all}", r"tiles: unknown key `lok`"),
        ("tiles: {look: sometimes}", r"tiles\.look: there is no 'sometimes'; use all or auto or motion"),
        ("tracker: {confirm_hits: many}", r"tracker\.confirm_hits: Expected `int`, got `str`"),
        ("merge: {threshold: 1.5}", r"merge\.threshold"),
        ("rules: {zones: [{name: a, polygon: [[0, 0], [1]]}]}", r"rules\.zones\[0\]\.polygon\[1\]"),
        ("rules: {zones: [{polygon: []}]}", r"missing key"),
        ("nonsense: 1", r"unknown key `nonsense`$"),
        ("tiles: {swep_s: 1}", r"tiles: unknown key `swep_s` \(did you mean 'sweep_s'\?\)$"),
        (
            "rules: {lines: [{name: a, points: []}]}",
            r"lines\[0\]: unknown key `points`; there are: name, start, end, classes",
        ),
        ("cameras: {a: {source: x, zones: [{name: b, polygn: []}]}}", r"zones\[0\]: .*did you mean 'polygon'"),
        ("cameras: {court: {sorce: x}}", r"cameras\.court: unknown key `sorce`"),
        ("cameras: {a/b: {source: x}}", r"'a/b' cannot be a camera's name"),
        ("cameras: {a: {source: x}, b: {source: x, fps: much}}", r"cameras\.b\.fps: Expected `float"),
        (
            "x:\n  - &a0 [y]\n" + "".join(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "write it out",
        ),
        ("x: &x\n  y: *x", "contains itself"),
        ("cameras:\n  a: {source: x}\n  a: {source: y}", r"line 3.*'a' is there twice"),
        ("a: [", r"line 1.*not valid YAML"),
        ("- 1", r"Expected `object`"),
    ],
)
def test_a_mistake_is_named_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(write(tmp_path, text))


def test_missing_file_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "b.yaml")


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, 'sources: ["rtsp://${CAM_USER}:${CAM_PASSWORD}@10.0.0.1/1"]')
    monkeypatch.setenv("CAM_USER", "me")
    monkeypatch.delenv("CAM_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="CAM_PASSWORD is used but not set"):
        load(file)
    monkeypatch.setenv("CAM_PASSWORD", "s3cret")
    assert load(file).sources == ["rtsp://me:s3cret@10.0.0.1/1"]


def test_dotted_values_know_the_tree() -> None:
    with pytest.raises(ConfigError, match=r"no setting called 'tiles.lok' \(did you mean 'look'\?\)"):
        with_values(Config(), {"tiles.lok": "all"})
    with pytest.raises(ConfigError, match=r"no setting called .model\.name\.x"):
        with_values(Config(), {"model.name.x": 1})
    assert with_values(Config(), {"model.rename.shuttle": "ball"}).model.rename == {"shuttle": "ball"}


def test_the_schema_covers_the_tree() -> None:
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["$defs"]) >= {"Config", "TilesConfig", "TrackerConfig", "Zone", "Line"}
    assert schema["$defs"]["TilesConfig"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:pa55@cam/1 failed", "rtsp://***@cam/1 failed"),
        ("http://h/x?token=abc&y=1", "http://h/x?token=***&y=1"),
        ("Connection refused: 'rtsp://u:p@h:554/s'", "Connection refused: 'rtsp://***@h:554/s'"),
        ("rtsp://u:p%40ss@h/1", "rtsp://***@h/1"),
        ("plain.mp4", "plain.mp4"),
        ("rtsp://u:p@ss:w/rd@h/1", "rtsp://***@h/1"),
    ],
)
def test_secrets_are_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("leaf", ["source.hwaccel", "motion.compensate"])
def test_a_bare_off_is_the_word_off(tmp_path: Path, leaf: str) -> None:
    branch, name = leaf.split(".")
    read = load(write(tmp_path, f"{branch}:\n  {name}: off\n"))
    assert getattr(getattr(read, branch), name) == "off"
    assert getattr(getattr(with_values(Config(), {leaf: False}), branch), name) == "off"  # as `--set` reads it


def test_a_key_called_on_is_a_word(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("record: {dir: x, on: [new, enter]}\n")
    assert load(tmp_path / "c.yaml").record.on == ("new", "enter")
