"""Events to a real HTTP server that answers well, badly, slowly, half, or not at all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from delivery_broker import certificates, wait_for
from sample_events import event

from streamdet.config import Config, from_tree
from streamdet.delivery import Deliveries, DeliveryStatus
from streamdet.errors import ConfigError
from streamdet.sinks.store import EventStore

pytestmark = pytest.mark.timeout(180)


class Receiver:
    """An HTTP server; `answers` are used up one per request, then 204. An answer is a status, or a function of the handler."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.connections = 0
        self.answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = []
        self.always: int = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                answer = receiver.answers.pop(0) if receiver.answers else receiver.always
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # connections that are broken on purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/T0KEN-in-path?x=1"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in list(self.requests)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with EventStore(tmp_path / "e.db") as opened:
        yield opened


def to(url: str, **more: Any) -> Config:
    return from_tree({"webhooks": [{"url": url, "timeout_s": 1.0, **more}], "store": {"drain_s": 20}})


def caught_up(deliveries: Deliveries) -> DeliveryStatus:
    return wait_for(lambda: [s for s in deliveries.status() if s.pending == 0])[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("secret", ["plain text key", "whsec_" + base64.b64encode(b"\x00binary\xff key").decode()])
def test_events_are_posted_signed_and_in_order(receiver: Receiver, store: EventStore, secret: str) -> None:
    config = to(receiver.url, secret=secret, headers={"Authorization": "Bearer abc"})
    with Deliveries(config, store) as deliveries:
        given = [store.append([event(n)])[0] for n in range(20)]
        status = caught_up(deliveries)
    assert [body["id"] for body in receiver.bodies] == [e.id for e in given]
    assert status.delivered == 20
    assert receiver.connections == 1, "the connection is kept"
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    for (headers, body), sent in zip(receiver.requests, given, strict=True):
        assert headers["webhook-id"] == sent.id
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        signed = f"{sent.id}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert headers["content-type"] == "application/json"
        assert headers["authorization"] == "Bearer abc"


def test_several_at_once(receiver: Receiver, store: EventStore) -> None:
    given = store.append(event(n) for n in range(25))
    store.cursor("webhook-all")
    store.sync(10)
    store._cursors["webhook-all"] = 0
    with Deliveries(to(receiver.url, batch=10, name="all"), store) as deliveries:
        caught_up(deliveries)
    assert [len(body) for body in receiver.bodies] == [10, 10, 5]
    assert [one["id"] for body in receiver.bodies for one in body] == [e.id for e in given]
    assert receiver.requests[0][0]["webhook-id"] == f"{given[0].id}_{given[9].id}"


def half_an_answer(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def say_nothing(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(2.5)
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    try:
        for number in range(100):
            handler.wfile.write(f"X-{number}: y\r\n".encode())
            time.sleep(0.1)
    except OSError:
        pass
    handler.close_connection = True


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("fault", [500, 503, 429, 408, half_an_answer, hang_up, say_nothing, drip, nonsense])
def test_trouble_is_waited_out_and_the_event_sent_again(receiver: Receiver, store: EventStore, fault: Any) -> None:
    receiver.answers = [204, fault, fault, 204]
    with Deliveries(to(receiver.url), store) as deliveries:
        given = [store.append([event(n)])[0].id for n in range(4)]
        status = caught_up(deliveries)
        assert status.failures >= 1
        assert status.dead == 0
        assert status.state == "connected"
    arrived = [body["id"] for body in receiver.bodies]
    assert list(dict.fromkeys(arrived)) == given
    assert arrived.count(given[1]) >= 3, "sent again, with its id, until it was taken"
    assert set(arrived[:2]) == set(given[:2])


def test_retry_after_is_heeded(receiver: Receiver, store: EventStore) -> None:
    moments: list[float] = []

    def later(handler: BaseHTTPRequestHandler) -> None:
        moments.append(time.monotonic())
        handler.send_response(503)
        handler.send_header("Retry-After", "2")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    receiver.answers = [later]
    with Deliveries(to(receiver.url), store) as deliveries:
        store.append([event(1)])
        caught_up(deliveries)
        assert time.monotonic() - moments[0] >= 1.9


def test_an_event_that_is_refused_becomes_a_dead_letter_and_blocks_nobody(
    receiver: Receiver, store: EventStore
) -> None:
    receiver.answers = [204, 400, 400, 204, 410, 422, 204]  # 1 ok; 2 refused twice; 3 ok; 4 twice; 5 ok
    with Deliveries(to(receiver.url, refusals=2), store) as deliveries:
        given = [store.append([event(n)])[0].id for n in range(6)]
        status = caught_up(deliveries)
        assert status.dead == 2
        assert status.delivered == 4
    store.sync(10)
    dead = wait_for(lambda: (letters := store.dead_letters()) and len(letters) == 2 and letters)
    assert {(event_id, reason) for _, event_id, reason, _ in dead} == {
        (given[1], "400 Bad Request"),
        (given[3], "422 Unprocessable Entity"),
    }


def test_one_bad_event_in_a_batch_is_found(receiver: Receiver, store: EventStore) -> None:
    def picky(handler: BaseHTTPRequestHandler) -> None:
        events = receiver.bodies[-1]
        bad = any(one["frame"] == 3 for one in events)
        receiver.answers.insert(0, picky)
        handler.send_response(422 if bad else 204)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    receiver.answers = [picky]
    with Deliveries(to(receiver.url, batch=50, refusals=2), store) as deliveries:
        store.append(event(n) for n in range(6))
        status = caught_up(deliveries)
        assert (status.delivered, status.dead) == (5, 1)


def test_redirects_are_not_followed(receiver: Receiver, store: EventStore) -> None:
    elsewhere = Receiver()

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", elsewhere.url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    receiver.answers = [redirect]
    try:
        with Deliveries(to(receiver.url, secret="abc"), store) as deliveries:
            store.append([event(1)])
            status = wait_for(lambda: [s for s in deliveries.status() if s.state == "refused"])[0]
            assert "points to another address (307), which is not followed" in status.last_error
            deliveries.close(abort=True)
        assert elsewhere.requests == []
    finally:
        elsewhere.close()


def test_nobody_learns_the_address_or_the_secret(
    receiver: Receiver, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.always = 401
    config = to(receiver.url.replace("http://", "http://me:pa55@"), secret="s1gning", headers={"X-Key": "h34der"})
    with caplog.at_level(logging.DEBUG), Deliveries(config, store) as deliveries:
        store.append([event(1)])
        status = wait_for(lambda: [s for s in deliveries.status() if s.last_error])[0]
        assert "answered 401 Unauthorized; check url, headers and secret" in status.last_error
        assert status.pending == 1
        deliveries.close(abort=True)
    told = caplog.text + repr(status) + repr(deliveries.undelivered) + repr(config)
    for secret in ("pa55", "s1gning", "h34der", "T0KEN"):
        assert secret not in told
    login = base64.b64encode(b"me:pa55").decode()
    assert receiver.requests[0][0]["authorization"] == f"Basic {login}"


def test_a_server_that_is_not_there_yet(store: EventStore) -> None:
    gone = Receiver()
    gone.close()
    with Deliveries(to(gone.url), store) as deliveries:
        given = [store.append([event(n)])[0].id for n in range(3)]
        status = wait_for(lambda: [s for s in deliveries.status() if s.state == "waiting"])[0]
        assert "Connection refused" in status.last_error
        assert status.oldest_s is not None
        back = Receiver()
        try:
            deliveries.reload(to(back.url, name="127.0.0.1-" + str(gone.server.server_port)))
            wait_for(lambda: len(back.bodies) == 3)
            assert [body["id"] for body in back.bodies] == given
        finally:
            deliveries.close()
            back.close()


def test_https_with_its_own_authority(store: EventStore, tmp_path: Path) -> None:
    certificate, key = certificates(tmp_path)
    receiver = Receiver()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    url = f"https://localhost:{receiver.server.server_port}/x"
    try:
        with Deliveries(to(url, ca_file=str(certificate), timeout_s=10), store) as deliveries:
            store.append([event(1)])
            caught_up(deliveries)
            assert len(receiver.requests) == 1
        with Deliveries(to(url, name="distrusting"), store) as deliveries:
            store.append([event(2)])
            status = wait_for(lambda: [s for s in deliveries.status() if s.last_error])[0]
            assert "its certificate is not trusted: self-signed certificate" in status.last_error
            deliveries.close(abort=True)
    finally:
        receiver.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "ftp://h/x"}, "must be http://HOST"),
        ({"url": "https:///x"}, "must be http://HOST"),
        ({"url": "https://h:99999/x"}, "must be http://HOST"),
        ({"url": "http://[h/x"}, "must be http://HOST"),
        ({"url": "https://h/x", "secret": "whsec_%%%1"}, "after whsec_ the secret must be base64"),
        ({"url": "https://h/x", "headers": {"A b": "x\r\ny"}}, "cannot be a header"),
        ({"url": "https://h/x", "secret_file": "/nowhere"}, "secret_file /nowhere: No such file"),
    ],
)
def test_a_wrong_setting_is_one_sentence(store: EventStore, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Deliveries(from_tree({"webhooks": [settings]}), store)


def test_two_of_one_name_are_refused(store: EventStore) -> None:
    with pytest.raises(ConfigError, match="two are called 'webhook-h'; give each a `name`"):
        Deliveries(from_tree({"webhooks": [{"url": "https://h/x"}, {"url": "https://h/y"}]}), store)
