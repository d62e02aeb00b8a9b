"""Who is let in, and what is kept out: over real HTTP, and the parts on their own."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from station_up import Running, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streamdet.config import CameraConfig, ServeConfig
from streamdet.errors import ConfigError, StartupError
from streamdet.service.guard import Keys
from streamdet.service.server import keys_of

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("locked"), serve=ServeConfig(port=0, token=TOKEN, host="0.0.0.0")) as up:
        up.wait_for_frames("court")
        yield up


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# -------------------------------------------------------------------------------------------------------------- a token


def test_beyond_this_machine_a_token_is_a_must(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serve\.host 0\.0\.0\.0 .* serve\.token_file"):
        keys_of(ServeConfig(host="0.0.0.0"))
    with pytest.raises(ConfigError, match="5 characters"):
        keys_of(ServeConfig(token="short"))
    with pytest.raises(ConfigError, match="cannot be read"):
        keys_of(ServeConfig(token_file=str(tmp_path / "none")))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert keys_of(ServeConfig(host="0.0.0.0", token_file=str(tmp_path / "token"))).fits(TOKEN)
    assert not keys_of(ServeConfig()).needed


@pytest.mark.parametrize(
    "path",
    ["/api/cameras", "/api/state", "/metrics", "/cameras/court/snapshot.jpg", "/media/x.mp4", "/api/openapi.json"],
)
def test_without_the_token_nothing_is_told(locked: Running, path: str) -> None:
    for headers in ({}, bearer("wrong-horse-battery"), {"cookie": "streamdet=1.2"}, {"authorization": "Basic eDp5"}):
        answer = locked.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.client.get(path, headers=bearer()).status_code in (200, 404)


def test_health_is_open_but_says_no_names(locked: Running) -> None:
    assert locked.client.get("/healthz").json() == {"status": "ok", "reasons": []}


def test_the_page_lets_in_who_knows_the_token(locked: Running) -> None:
    with httpx.Client(base_url=locked.url, timeout=30) as client:
        assert client.get("/").headers["location"] == "/login"
        assert "Token" in client.get("/login").text
        wrong = client.post("/login", data={"token": "nonsense-nonsense"})
        assert wrong.headers["location"] == "/login?wrong"
        assert not client.cookies
        right = client.post("/login", data={"token": TOKEN}, headers={"origin": locked.url})
        assert right.headers["location"] == "/"
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
        assert client.get("/api/cameras").status_code == 200
        # the cookie alone changes nothing for a page of another site
        foreign = client.post("/api/cameras/court/pause", headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert client.post("/logout", headers={"origin": locked.url}).status_code == 303
        assert client.get("/api/cameras").status_code == 401


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    with running(tmp_path, cameras={}, serve=ServeConfig(port=0, token=TOKEN)) as up:
        places = [up.client.post("/login", data={"token": f"guess-number-{n}"}).headers["location"] for n in range(12)]
        assert places == ["/login?wrong"] * 10 + ["/login?wait"] * 2
        assert up.client.post("/login", data={"token": TOKEN}).headers["location"] == "/login?wait"
        assert up.client.get("/api/cameras", headers=bearer()).status_code == 200


def test_sockets_need_the_token_too(locked: Running) -> None:
    url = locked.url.replace("http", "ws") + "/api/live"
    with pytest.raises(InvalidStatus):
        connect(url, open_timeout=30)
    with connect(url, additional_headers=bearer(), open_timeout=30) as opened:
        assert '"cameras"' in str(opened.recv(timeout=30))


def test_a_cookie_dies_with_its_token_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(TOKEN)
    cookie = keys.cookie()
    assert keys.cookie_fits(cookie)
    assert Keys(TOKEN).cookie_fits(cookie)  # after a restart
    assert not Keys("another-token-altogether").cookie_fits(cookie)
    until, _, signature = cookie.partition(".")
    assert not keys.cookie_fits(f"{int(until) + 1}.{signature}")
    assert not any(keys.cookie_fits(text) for text in ("", "x.y", f"{'9' * 5000}.{signature}"))
    assert not Keys(None).cookie_fits(Keys(None).cookie())
    monkeypatch.setattr("streamdet.service.guard.time.time", lambda: float(until) + 1)
    assert not keys.cookie_fits(cookie)


# ---------------------------------------------------------------------------------------------------- other sites, limits


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"host": "rebound.example"},
    ],
)
def test_another_sites_page_may_not_change_anything(court: Running, headers: dict[str, str]) -> None:
    assert court.client.post("/api/cameras/court/pause", headers=headers).status_code == 403
    assert court.client.get("/api/cameras/court").json()["state"] != "paused"


def test_another_sites_page_may_not_look(court: Running) -> None:
    for headers in (
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},  # <img src=http://127.0.0.1:8080/...>
        {"origin": "http://evil.example"},
        {"host": "rebound.example:8080"},
    ):
        assert court.client.get("/cameras/court/snapshot.jpg", headers=headers).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert court.client.get("/", headers=link).status_code == 200  # a link in a mail
    with pytest.raises(InvalidStatus):
        connect(court.url.replace("http", "ws") + "/api/live", origin="http://evil.example", open_timeout=30)  # type: ignore[arg-type]


def test_who_connects_and_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are counted by connection: without this, some hundred silent ones lock out everybody, for ever."""
    monkeypatch.setattr("streamdet.service.server.HEAD_S", 1.0)
    with running(tmp_path) as up:
        address = ("127.0.0.1", up.client.base_url.port or 80)
        with contextlib.ExitStack() as opened:
            silent = [opened.enter_context(socket.create_connection(address, 30)) for _ in range(5)]
            for connection in silent[1:]:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
            for connection in silent:
                assert connection.recv(100) == b""
            well = opened.enter_context(socket.create_connection(address, 30))
            well.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/1.1" in well.recv(10_000)
            well.sendall(b"GET /")  # a second head that never ends
            while well.recv(10_000):
                pass
        with connect(up.url.replace("http", "ws") + "/api/live") as live:  # which says nothing either, and stays
            until_s = time.monotonic() + 3
            while time.monotonic() < until_s:
                assert live.recv(timeout=10)


def test_large_bodies_are_refused_with_or_without_their_length(court: Running) -> None:
    large = b'{"text": "' + b"x" * 2_000_000 + b'"}'
    json = {"content-type": "application/json"}
    said = court.client.post("/api/config/validate", content=large, headers=json)
    assert said.status_code == 413

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000]

    assert court.client.post("/api/config/validate", content=chunks(), headers=json).status_code == 413


def test_deep_or_broken_json_is_refused(court: Running) -> None:
    json = {"content-type": "application/json"}
    post = court.client.post
    assert post("/api/cameras", content=b"[" * 100_000, headers=json).status_code in (400, 422)
    assert post("/api/cameras", content=b"\xff\xfe", headers=json).status_code == 400
    assert post("/api/cameras", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    deep = b'{"text": "' + b"[" * 50_000 + b'"}'
    assert post("/api/config/validate", content=deep, headers=json).json()["valid"] is False
    levels = ["a: &a [x, x, x, x, x, x, x, x]"]
    levels += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi")]
    bomb = "\\n".join(levels)  # 8 * 9^8 words when written out
    assert post("/api/config/validate", content=f'{{"text": "{bomb}"}}', headers=json).json()["valid"] is False
    assert post("/api/config/validate", content='{"text": "a: &a [*a]"}', headers=json).json()["valid"] is False


def test_every_answer_has_the_security_headers(court: Running) -> None:
    for path in ("/", "/api/cameras", "/nowhere", "/static/app.js", "/healthz"):
        headers = court.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/media/../page.json",
        "/media/..%2fpage.json",
        "/media/%2e%2e/page.json",
        "/media/....//page.json",
        "/media//etc/passwd",
        "/media/%2fetc%2fpasswd",
        "/media/a/%00.mp4",
        "/media/link/secret.mp4",
        "/cameras/court/hls/secret.txt",
        "/cameras/court/hls/..%2f..%2fpage.json",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
    ],
)
def test_no_path_leads_out_of_its_folder(tmp_path: Path, path: str, outside: Running) -> None:
    raw = path.encode()
    host, port = outside.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:  # as it stands: no client tidies it up
        wire.sendall(b"GET " + raw + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert answer.split(b" ", 2)[1] == b"404", answer[:300]
    assert b"top secret" not in answer


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A recording folder with a link that leads out of it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "secret.mp4").write_text("top secret")
    (folder / "recorded").mkdir()
    (folder / "recorded" / "link").symlink_to(folder / "elsewhere")
    (folder / "hls" / "court").mkdir(parents=True)
    (folder / "hls" / "court" / "secret.txt").write_text("top secret")
    settings = {"record.dir": str(folder / "recorded"), "broadcast.hls": str(folder / "hls")}
    with running(folder, settings=settings) as up:
        yield up


def test_hls_comes_from_its_folder_and_from_nowhere_else(outside: Running, court: Running) -> None:
    outside.wait(lambda: outside.client.get("/cameras/court/hls/live.m3u8").status_code == 200)
    found = outside.client.get("/cameras/court/hls/live.m3u8")
    assert found.headers["content-type"] == "application/vnd.apple.mpegurl"
    for name in ("secret.txt", "none.ts", "..%2f..%2fpage.json", ".m3u8"):
        assert outside.client.get(f"/cameras/court/hls/{name}").status_code == 404
    assert "broadcast.hls" in court.client.get("/cameras/court/hls/live.m3u8").json()["error"]


def test_a_port_that_is_taken_is_told(tmp_path: Path, court: Running) -> None:
    port = int(court.url.rsplit(":", 1)[1])
    with (
        pytest.raises(StartupError, match=rf"cannot listen on 127.0.0.1:{port}"),
        running(tmp_path, serve=ServeConfig(port=port)),
    ):
        pass


# -------------------------------------------------------------------------------------------------------------- secrets


def test_secrets_are_nowhere(tmp_path: Path) -> None:
    """Passwords in addresses and fields, and the token: not in a log, an answer, a metric, an event or the page."""
    secrets = ("hunter2secret", "swordfish99", "letmein-letmein", TOKEN)
    cameras = {
        "one": CameraConfig(source=f"rtsp://admin:{secrets[0]}@127.0.0.1:9/x?token={secrets[2]}"),
        "two": CameraConfig(source="rtsp://127.0.0.1:9/y", username="admin", password=secrets[1]),
        "court": CameraConfig(source="demo"),
    }
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        serve = ServeConfig(port=0, token=TOKEN, stale_s=0.3, camera_hosts=["127.0.0.1"])
        with running(tmp_path, cameras=cameras, serve=serve) as up:
            up.client.headers.update(bearer())
            new = {"name": "three", "source": f"rtsp://u:{secrets[0]}@127.0.0.1:9/z", "username": None}
            told = [up.client.post("/api/cameras", json=new).text]
            told += [
                up.client.post("/api/cameras", json={**new, "name": "four", "source": f"x://u:{secrets[0]}@h/"}).text
            ]
            up.wait(lambda: len(up.client.get("/healthz").json()["reasons"]) == 3)
            up.wait(lambda: up.client.get("/api/events").json()["events"])
            paths = ["/api/cameras", "/api/state", "/api/config", "/api/events", "/metrics", "/healthz", "/"]
            told += [up.client.get(path).text for path in (*paths, "/api/openapi.json", "/api/cameras/one")]
            config = up.client.get("/api/config").json()
            assert config["cameras"]["two"]["password"] == "***"
            assert config["serve"]["token"] == "***"
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(logging.WARNING)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("events.db*"))
    for secret in secrets:
        assert secret not in heard.getvalue()
        assert not [text for text in told if secret in text]
        assert secret.encode() not in stored
