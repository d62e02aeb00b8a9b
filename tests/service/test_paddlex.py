"""The service PaddleX's clients know: a real server, real clients, and those who mean harm."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from streamdet.config import Config, with_values
from streamdet.service.pictures import serving
from streamdet.service.server import Server
from streamdet.sources import fetch as fetching
from tests.dot_network import dots, save_dot_network
from tests.sources.test_stills import pdf

CLIENTS = Path(__file__).parent / "clients"
PATH = "/small-object-detection"
PLACES = ((40, 50, "red", 0.9), (200, 120, "blue", 0.7), (250, 60, "red", 0.45))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_dot_network(tmp_path_factory.mktemp("model") / "dots.onnx"))


def config(model: str, values: dict[str, Any] | None = None) -> Config:
    named = {"model.name": model, "model.backend": "onnxruntime", "serve.port": 0, "pictures.most_px": 1_000_000}
    return with_values(Config(), {**named, "pictures.body_bytes": 2_000_000, **(values or {})})


@pytest.fixture(scope="module")
def server(model: str) -> Iterator[Server]:
    with serving(config(model)) as up:
        yield up


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def png(picture: np.ndarray | None = None) -> bytes:
    return cv2.imencode(".png", dots((300, 200), *PLACES) if picture is None else picture)[1].tobytes()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def names(answer: httpx.Response) -> list[str]:
    return [found["categoryName"] for found in answer.json()["result"]["detectedObjects"]]


def refused(answer: httpx.Response, status: int) -> str:
    """The one sentence of an error in the envelope, checked."""
    body = answer.json()
    assert answer.status_code == status, body
    assert body.keys() == {"logId", "errorCode", "errorMsg"}
    assert body["errorCode"] == status
    uuid.UUID(body["logId"])
    return str(body["errorMsg"])


def test_the_envelope(client: httpx.Client) -> None:
    answer = client.post(PATH, json={"image": b64(png())})
    body = answer.json()
    assert answer.status_code == 200
    assert (body["errorCode"], body["errorMsg"]) == (0, "Success")
    uuid.UUID(body["logId"])
    red, blue = body["result"]["detectedObjects"]
    assert red.keys() == {"bbox", "categoryId", "categoryName", "score"}
    assert (red["categoryId"], red["categoryName"], blue["categoryId"], blue["categoryName"]) == (0, "red", 1, "blue")
    assert red["score"] == pytest.approx(0.9, abs=0.01)
    assert abs((red["bbox"][0] + red["bbox"][2]) / 2 - 40) < 9
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(body["result"]["image"]), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (200, 300, 3)
    assert base64.b64decode(body["result"]["image"])[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize(
    ("more", "found", "drawn"),
    [
        ({}, ["red", "blue"], True),
        ({"threshold": None, "visualize": None}, ["red", "blue"], True),
        ({"threshold": 0.8, "visualize": False}, ["red"], False),
        ({"threshold": "0.8"}, ["red"], True),
        ({"threshold": {"0": 0.3}}, ["red", "blue", "red"], True),
        ({"threshold": {"blue": 0.9}}, ["red"], True),
        ({"threshold": 0}, ["red", "blue", "red"], True),
        ({"useless": {"deep": [1]}}, ["red", "blue"], True),
    ],
)
def test_options(more: dict[str, Any], found: list[str], drawn: bool, client: httpx.Client) -> None:
    answer = client.post(PATH, json={"image": b64(png()), **more})
    assert names(answer) == found
    assert (answer.json()["result"]["image"] is not None) == drawn


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm", ".gif"])
def test_kinds_of_files(suffix: str, client: httpx.Client) -> None:
    data = cv2.imencode(suffix, dots((300, 200), (41, 53, "red", 1.0)))[1].tobytes()
    assert names(client.post(PATH, json={"image": b64(data)})) == ["red"]


def test_base64_as_it_comes(client: httpx.Client) -> None:
    for text in (base64.encodebytes(png()).decode(), "data:image/png;base64," + b64(png())):
        assert names(client.post(PATH, json={"image": text})) == ["red", "blue"]
    wrong_type = client.post(PATH, content=json.dumps({"image": b64(png())}), headers={"content-type": "text/plain"})
    assert names(wrong_type) == ["red", "blue"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "missing required field `image`"),
        (b'{"image": 5}', "image"),
        (b'{"image": null}', "image"),
        (b'{"image": ""}', "no JPEG"),
        (b'{"image": "!"}', "no JPEG"),
        (b'{"image": "abc"}', "base64"),
        (b'{"image": "\xff"}', ""),
        (b'{"image": "AAAA", "threshold": "x"}', "threshold"),
        (b'{"image": "AAAA", "threshold": []}', "threshold"),
        (b'{"image": "AAAA", "visualize": 7}', "visualize"),
        (b'{"image": "AAAA", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ],
)
def test_bodies_that_are_none(body: bytes, words: str, client: httpx.Client) -> None:
    assert words in refused(client.post(PATH, content=body), 422)


@pytest.mark.parametrize("threshold", [-1, 2, {"0": 7}, {"green": 0.5}, {"9": 0.5}, {"-1": 0.5}, True])
def test_thresholds_that_are_none(threshold: Any, client: httpx.Client) -> None:
    answer = client.post(PATH, json={"image": b64(png()), "threshold": threshold})
    if threshold is not True:  # JSON's true is 1 where numbers are read leniently
        assert "threshold" in refused(answer, 422)


def test_elsewhere(client: httpx.Client) -> None:
    assert client.get("/health").json()["errorMsg"] == "Healthy"
    assert PATH in refused(client.get("/nothing"), 404)
    assert refused(client.get(PATH), 405)
    assert client.get("/openapi.json").json()["paths"].keys() == {PATH, "/health"}


# ------------------------------------------------------------------------------------------------------------ many at once


def test_64_clients_at_once(server: Server) -> None:
    pictures = {n: png(dots((120, 120), (20 + n, 60, "red", 1.0))) for n in range(64)}

    def ask(number: int) -> bool:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            for _ in range(3):
                answer = client.post(PATH, json={"image": b64(pictures[number]), "visualize": number % 8 == 0})
                assert answer.status_code == 200, answer.text
                [found] = answer.json()["result"]["detectedObjects"]
                assert abs((found["bbox"][0] + found["bbox"][2]) / 2 - (20 + number)) < 9
        return True

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(ask, range(64)))


def test_more_than_may_wait_are_told_to_come_again(model: str) -> None:
    with serving(config(model, {"pictures.waiting": 1})) as up, ThreadPoolExecutor(8) as pool:
        picture = b64(png(dots((1000, 900))))
        answers = list(pool.map(lambda _: httpx.post(up.url + PATH, json={"image": picture}, timeout=60), range(8)))
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 429}
    assert statuses[0] == 200
    busy = [answer for answer in answers if answer.status_code == 429]
    assert all("come again" in refused(answer, 429) and answer.headers["retry-after"] for answer in busy)


# ------------------------------------------------------------------------------------------------------------------ harm


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiff_of(width: int, height: int, *, tile: int = 0) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    entries += (
        [(322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, 4)]
        if tile
        else [(273, 4, 8), (278, 4, height), (279, 4, 4)]
    )
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", 0)


def scans() -> bytes:
    """A progressive JPEG whose last scan is there a thousand times."""
    done, data = cv2.imencode(".jpg", dots((600, 600), (300, 300, "red", 1)), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    whole = data.tobytes()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * 1000 + b"\xff\xd9"


BOMBS = {
    "png of 60,000 x 60,000": (png_of(60_000, 60_000), 413),
    "png of 2^31 px a side": (png_of(2**31 - 1, 2**31 - 1), 413),
    "png that holds too little": (png_of(900, 900, b"\0" * 50), 422),
    "png that unpacks to more than it says": (png_of(10, 10, b"\0" * 3_000_000), None),
    "jpeg of 65,500 x 65,500": (b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\1\x11\0\2\x11\1\3\x11\1\xff\xd9", 413),
    "jpeg of a thousand scans": (scans(), 413),
    "jpeg without an end": (cv2.imencode(".jpg", dots((400, 400)))[1].tobytes()[:300], None),
    "tiff of 100,000 x 100,000": (tiff_of(100_000, 100_000), 413),
    "tiff with one tile of 60,000": (tiff_of(100, 100, tile=60_000), 422),
    "gif of 65,535 x 65,535": (b"GIF89a" + b"\xff" * 4 + b"\0" * 20, 413),
    "bmp of 2^31 rows": (b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 100, -(2**31)) + b"\0" * 40, 413),
    "pnm of 99,999 x 99,999": (b"P5 99999 99999 255 \0", 413),
    "webp of 16,383 x 16,383": (b"RIFF\0\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0", 413),
    "no picture": (b"\x7fELF" + b"\0" * 100, 422),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", 422),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, client: httpx.Client) -> None:
    data, status = BOMBS[name]
    started_s = time.monotonic()
    answer = client.post(PATH, json={"image": b64(data)})
    assert time.monotonic() - started_s < 30
    assert answer.status_code < 500
    if status is not None:
        refused(answer, status)
    assert names(client.post(PATH, json={"image": b64(png())})) == ["red", "blue"]


def test_a_pdf_bomb(client: httpx.Client, tmp_path: Path) -> None:
    assert "a PDF is no picture" in refused(
        client.post(PATH, json={"image": b64(pdf(tmp_path / "a.pdf", pages=500).read_bytes())}), 422
    )


def test_bodies_too_large(client: httpx.Client, server: Server) -> None:
    assert "larger than 2000000 bytes" in refused(client.post(PATH, content=b"x" * 2_100_000), 413)

    def endless() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 100_000

    with httpx.Client(base_url=server.url, timeout=60) as other, contextlib.suppress(httpx.TransportError):
        assert other.post(PATH, content=endless()).status_code == 413  # no length said; it may hang up on us, too


def test_a_request_that_drips_is_cut_off(model: str) -> None:
    with serving(config(model, {"pictures.timeout_s": 0.5})) as up:
        with socket.create_connection(("127.0.0.1", up.port), timeout=30) as slow:
            slow.sendall(b"POST /small-object-detection HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        huge = b64(png(np.zeros((1000, 1000, 3), np.uint8)))
        answer = httpx.post(up.url + PATH, json={"image": huge}, timeout=60)
        assert answer.status_code in (200, 429)  # half a second may do
        small = httpx.post(up.url + PATH, json={"image": b64(png()), "visualize": False}, timeout=60)
        assert small.status_code in (200, 429)


def test_a_client_that_goes_away(server: Server, client: httpx.Client) -> None:
    body = json.dumps({"image": b64(png())}).encode()
    for sent in (10, len(body)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as gone:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            gone.sendall(head.encode() + body[:sent])
    assert names(client.post(PATH, json={"image": b64(png())})) == ["red", "blue"]


# -------------------------------------------------------------------------------------------------------------- addresses


@pytest.fixture
def web() -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = png() if self.path == "/a.png" else b"x" * 3_000_000
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    up = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    up.daemon_threads = True
    up.block_on_close = False
    threading.Thread(target=up.serve_forever, daemon=True).start()
    yield up.server_port, asked
    up.shutdown()
    up.server_close()


def test_addresses_are_off_unless_allowed(client: httpx.Client, web: tuple[int, list[str]]) -> None:
    port, asked = web
    assert "not fetched here" in refused(client.post(PATH, json={"image": f"http://127.0.0.1:{port}/a.png"}), 403)
    assert not asked


def test_allowed_addresses_never_lead_inside(
    model: str, web: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = web
    with serving(config(model, {"pictures.urls": True})) as up, httpx.Client(base_url=up.url, timeout=60) as client:
        for host in ("127.0.0.1", "localhost", "[::1]", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "169.254.169.254"):
            answer = client.post(PATH, json={"image": f"http://{host}:{port}/a.png"})
            assert answer.status_code in (403, 422), answer.text
        assert not asked
        monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")  # passes for a public one
        assert names(client.post(PATH, json={"image": f"http://127.0.0.1:{port}/a.png"})) == ["red", "blue"]
        refused(client.post(PATH, json={"image": f"http://127.0.0.1:{port}/away"}), 403)
        refused(client.post(PATH, json={"image": f"http://127.0.0.1:{port}/large"}), 413)
        refused(client.post(PATH, json={"image": "http://"}), 422)


# ------------------------------------------------------------------------------------------------------- token, command


def test_a_token_that_is_set_is_asked_for(model: str) -> None:
    with serving(config(model, {"serve.token": "a-token-nobody-guesses"})) as up:
        request = {"image": b64(png()), "visualize": False}
        refused(httpx.post(up.url + PATH, json=request), 401)
        refused(httpx.post(up.url + PATH, json=request, headers={"authorization": "Bearer wrong"}), 401)
        known = {"authorization": "Bearer a-token-nobody-guesses"}
        assert httpx.post(up.url + PATH, json=request, headers=known).status_code == 200
        assert httpx.get(up.url + "/health").status_code == 200


def test_the_command_needs_no_configuration_file(model: str) -> None:
    command = [sys.executable, "-m", "streamdet", "serve", "--port", "0", "--model", model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            url = line.split(" at ")[1].strip()
            assert names(httpx.post(url, json={"image": b64(png())}, timeout=60)) == ["red", "blue"]
        finally:
            process.terminate()
        assert process.wait(timeout=60) == 0


def test_the_command_without_anything_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    from streamdet.cli import main

    assert main(["serve"]) == 2
    assert "neither CONFIG.yaml nor --model" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- clients of all kinds


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_bytes(png())
    return tmp_path / "photo.png"


def needs(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed here")
    return found


def ran(*command: str, given: str | None = None) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, input=given).stdout


def test_curl(server: Server, photo: Path) -> None:
    body = json.dumps({"image": b64(photo.read_bytes())})
    answer = ran(needs("curl"), "-s", server.url + PATH, "-d", "@-", given=body)  # as a form: what curl does by itself
    assert json.loads(answer)["errorMsg"] == "Success"


def test_node(server: Server, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    assert (
        ran(needs("node"), str(CLIENTS / "client.mjs"), server.url + PATH, str(photo), str(out))
        == "0 Success red,blue\n"
    )
    assert out.read_bytes()[:3] == b"\xff\xd8\xff"


def test_compiled(server: Server, photo: Path, tmp_path: Path) -> None:
    program = str(tmp_path / "client")
    ran(needs("g++"), "-O1", "-std=c++17", str(CLIENTS / "client.cpp"), "-o", program)
    head, _, body = ran(program, str(server.port), str(photo)).partition("\n\n")  # text: line ends are one character
    assert head.startswith("HTTP/1.1 200 OK")
    assert [found["categoryName"] for found in json.loads(body)["result"]["detectedObjects"]] == ["red", "blue"]
