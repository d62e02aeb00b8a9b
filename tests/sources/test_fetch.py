"""Fetching from the web on a stranger's behalf: which addresses pass, and that nothing gets round the look."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from streamdet.errors import SourceOpenError
from streamdet.sources import fetch as fetching
from streamdet.sources.fetch import ForbiddenAddress, TooLarge, fetch, is_public

HIDDEN = (
    *(
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
    ),
    *(
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "nonsense"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::127.0.0.1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::10.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
)
PUBLIC = ("8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700:4700::1111", "2002:808:808::1")


@pytest.mark.parametrize("address", HIDDEN)
def test_hidden(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        what = self.path.lstrip("/").partition("?")[0]
        if what == "loop":
            self._redirect("/loop")
        elif what == "away":
            self._redirect("http://169.254.169.254/latest/meta-data")
        elif what == "file":
            self._redirect("file:///etc/passwd")
        elif what == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 65536)
        elif what == "drip":
            with contextlib.suppress(OSError):
                for _ in range(600):
                    self.wfile.write(b"H")
                    self.wfile.flush()
                    time.sleep(0.1)
        elif what == "gzip":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"abc")
        elif what == "short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"abc")
        else:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def get(port: int, what: str, *, private: bool = True, timeout_s: float = 10, host: str = "127.0.0.1") -> bytes:
    return fetch(f"http://{host}:{port}/{what}", max_bytes=200_000, timeout_s=timeout_s, private=private)


def test_one_s_own_network(port: int) -> None:
    assert get(port, "a%20b c?x=1&y=ä") == b"ok"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "0", "[::ffff:127.0.0.1]", "[::1]", "127.1", "user@127.0.0.1"],
)
def test_a_stranger_reaches_nothing_here(port: int, host: str) -> None:
    with pytest.raises(SourceOpenError) as caught:
        get(port, "", private=False, host=host)
    assert isinstance(caught.value, ForbiddenAddress) or "not known" in str(caught.value)


def test_a_name_that_has_one_hidden_address_among_others(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("8.8.8.8", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kw: entries)
    with pytest.raises(ForbiddenAddress):
        get(port, "", private=False, host="rebind.example")


def test_the_address_looked_at_is_the_one_connected_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers differently the second time (DNS rebinding) is never asked a second time."""
    asked, connected = [], []

    def look_up(host: str, *_args: Any, **_kw: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8" if len(asked) == 1 else "127.0.0.1", port))]

    def connect(address: Any, timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError("no way out of this test")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(SourceOpenError, match="no way out"):
        get(port, "", private=False, host="rebind.example")
    assert connected == [("8.8.8.8", port)]
    assert asked == ["rebind.example"]


def test_redirects_are_looked_at_anew(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")  # this server passes for public
    assert get(port, "", private=False) == b"ok"
    with pytest.raises(ForbiddenAddress):
        get(port, "away", private=False)
    with pytest.raises(SourceOpenError, match="no web address"):
        get(port, "file", private=False)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("loop", SourceOpenError, "more than 5 redirects"),
        ("endless", TooLarge, "larger than 200000 bytes"),
        ("gzip", SourceOpenError, "packs its answer"),
        ("short", SourceOpenError, "cannot fetch"),
    ],
)
def test_bad_servers(port: int, what: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        get(port, what)


def test_a_server_that_drips_is_cut_off(port: int) -> None:
    started_s = time.monotonic()
    with pytest.raises(SourceOpenError, match=r"more than 0\.5 s"):
        get(port, "drip", timeout_s=0.5)
    assert time.monotonic() - started_s < 20


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "http://", "http:///x", "http://a:99999/", "http://[::1/", "http://a:0/", "x"]
)
def test_no_web_address(url: str) -> None:
    with pytest.raises(SourceOpenError, match="no web address"):
        fetch(url, max_bytes=1, timeout_s=1, private=True)


def test_secrets_stay_out_of_errors(port: int) -> None:
    with pytest.raises(SourceOpenError) as caught:
        fetch(f"http://me:geheim@127.0.0.1:{port}/endless?token=geheim", max_bytes=10, timeout_s=5, private=True)
    assert "geheim" not in str(caught.value)
