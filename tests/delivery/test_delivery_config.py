"""Destinations in words: addresses as short forms, and secrets that are never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamdet.cli import main
from streamdet.config import Config, from_tree, json_schema, load, to_yaml, with_values
from streamdet.errors import ConfigError

SECRET = "hun/ter@2"


@pytest.mark.parametrize(
    ("address", "node", "expected"),
    [
        ("mqtt://broker", "mqtt", {"host": "broker", "port": None, "tls": False, "prefix": "streamdet", "user": None}),
        (
            "mqtts://me:hun%2Fter%402@b:9/site/a",
            "mqtt",
            {"host": "b", "port": 9, "tls": True, "prefix": "site/a", "user": "me"},
        ),
        ("mqtts://b?ca_file=ca.pem&client_id=x", "mqtt", {"ca_file": "ca.pem", "client_id": "x"}),
        (
            "kafka://k1:9092,k2:9092/ball.events",
            "kafka",
            {"brokers": "k1:9092,k2:9092", "topic": "ball.events", "tls": False},
        ),
        (
            "kafkas://me:hun%2Fter%402@k:9",
            "kafka",
            {"brokers": "k:9", "topic": "streamdet.events", "tls": True, "user": "me"},
        ),
    ],
)
def test_an_address_is_short_for_settings(address: str, node: str, expected: dict[str, Any]) -> None:
    config = with_values(Config(), {"output.events": address})
    settings = getattr(config, node)
    assert {name: getattr(settings, name) for name in expected} == expected
    assert config.output.events is None
    if "me:" in address:
        assert settings.password.reveal() == SECRET
    assert with_values(config, {"tiles.look": "all"}).mqtt == config.mqtt


def test_settings_of_librdkafka_are_shown_without_their_secrets() -> None:
    options = {"sasl.password": "kafkapw", "ssl.key.pem": "kafkapw", "sasl.mechanism": "PLAIN"}
    printed = to_yaml(from_tree({"kafka": {"brokers": "b:1", "options": options}}))
    assert "kafkapw" not in printed
    assert "PLAIN" in printed


def test_several_at_once_and_a_file() -> None:
    events = ["mqtt://b", "e.jsonl", "https://h/x?a=1", "https://h/y", "postgresql://u@h/db"]
    config = with_values(Config(), {"output.events": events})
    assert config.output.events == "e.jsonl"
    assert [hook.url.reveal() for hook in config.webhooks] == ["https://h/x?a=1", "https://h/y"]
    assert config.postgres is not None
    assert config.mqtt is not None


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ("redis://me:hun@h/x", r"--events redis://\*\*\*@h/x: events can be sent to mqtt://"),
        ("mqtt://me:hun/ter@2@h/x", r"--events mqtt://\*\*\*@h/x: this is no address; .* as %2F %3A %40"),
        ("mqtt:///prefix", "there is no host in it"),
        ("mqtt://h:99999", "this is no address; check the port"),
        (["a.jsonl", "-"], "one file only, not to a.jsonl and -"),
        (["mqtt://a", "mqtt://b"], "there is a destination `mqtt` already"),
        ("mqtt://h?nonsense=1", r"mqtt: unknown key `nonsense`"),
    ],
)
def test_a_mistake_is_one_sentence_without_the_secret(events: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        with_values(Config(), {"output.events": events})
    assert "hun" not in str(caught.value)


def everything_secret() -> Config:
    return from_tree(
        {
            "sources": [f"rtsp://me:{SECRET}@cam/1"],
            "mqtt": {"host": "b", "user": "me", "password": SECRET},
            "webhooks": [
                {"url": "https://me:hun@hooks.example/hunter", "secret": SECRET, "headers": {"Authorization": SECRET}}
            ],
            "kafka": {"brokers": "k:9", "password": SECRET},
            "postgres": {"url": f"postgresql://me:{SECRET}@db/x", "password": SECRET},
            "serve": {"token": SECRET},
        }
    )


def test_secrets_are_in_no_picture_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = everything_secret()
    printed = to_yaml(config)
    for shown in (
        printed,
        repr(config.mqtt),
        repr(config.webhooks),
        repr(config.kafka),
        repr(config.postgres),
        f"{config.mqtt}",
    ):
        assert "hun" not in shown
    assert "https://hooks.example/***" in printed
    assert with_values(config, {"tiles.look": "all"}).webhooks == config.webhooks
    assert main(["run", "demo", "--events", f"mqtt://me:hun%2Fter%402@b/{'x'}", "--print-config"]) == 0
    out = capsys.readouterr().out
    assert "hun" not in out
    assert "host: b" in out
    file = tmp_path / "printed.yaml"
    file.write_text(printed)
    with pytest.raises(ConfigError, match=r"stands for a value that was hidden when this was printed"):
        load(file)


def test_secrets_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", SECRET)
    file = tmp_path / "c.yaml"
    file.write_text("mqtt: {host: b, password: '${MQTT_PASSWORD}'}\n")
    config = load(file)
    assert config.mqtt is not None
    assert config.mqtt.password is not None
    assert config.mqtt.password.reveal() == SECRET


def test_the_schema_says_what_is_secret() -> None:
    webhook = json_schema()["$defs"]["WebhookConfig"]["properties"]
    assert webhook["url"] == {"type": "string", "writeOnly": True}
    assert "StoreConfig" in json_schema()["$defs"]
