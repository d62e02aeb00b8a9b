"""Events to an HTTP address by POST; delivered is what was answered with 2xx."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from urllib.parse import unquote, urlsplit

from streamdet import __version__
from streamdet.config import WebhookConfig, secret_of
from streamdet.delivery.outcome import Refused, Unreachable
from streamdet.errors import ConfigError
from streamdet.protocols import EventLog
from streamdet.types import StoredEvent

__all__ = ["WebhookDestination", "signature"]

REFUSES_THE_EVENT = frozenset({400, 410, 413, 422})
TRY_LATER = frozenset({408, 425, 429})
ANSWER_BYTES = 65_536
LONGEST_PAUSE_S = 300.0


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,BASE64`` of HMAC-SHA256 over ``id.timestamp.body`` (https://www.standardwebhooks.com).

    A secret that begins with ``whsec_`` is base64 behind that, any other is the key itself.
    """
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookDestination:
    """One address. Each event is a request of its own, or with `batch` above 1 a JSON array of those that wait.

    408, 425, 429 and 5xx, time-outs and broken connections are tried again for ever, with a pause (Retry-After is heeded).
    400, 410, 413 and 422 refuse the event: after `refusals` times it becomes a dead letter, and until one is taken again, each
    that is refused goes there at once. Anything else, redirects too, needs mending on our side and is tried slowly.
    """

    def __init__(self, config: WebhookConfig, events: EventLog, *, name: str) -> None:
        """Raises ConfigError for an address, header or secret that cannot be."""
        self._config, self._log, self._name = config, events, name
        try:
            self._url = urlsplit(config.url.reveal())
            sound = self._url.scheme in ("http", "https") and bool(self._url.hostname) and self._url.port != 0
        except ValueError:  # a port above 65535, a bracket that is not closed
            sound = False
        if not sound:
            raise ConfigError(f"webhooks: {config.url}: the address must be http://HOST[:PORT]/... or https://...")
        for header, value in config.headers.items():
            if not header.isascii() or ":" in header or any(c in header + value.reveal() for c in "\r\n\0"):
                raise ConfigError(f"webhooks: {config.url}: '{header}' or its value cannot be a header")
        self._check_secret(secret_of(config.secret, config.secret_file, "webhooks.secret"))
        self.window = config.batch
        self._connection: http.client.HTTPConnection | None = None
        self._settled = self._dead = 0
        self._refused: tuple[int, int] = (0, 0)  # seq, how often
        self._refuses_all = False
        self._singly_until = 0  # one of these was refused: find out which

    @property
    def address(self) -> str:
        return str(self._config.url)

    @property
    def settled(self) -> int:
        return self._settled

    @property
    def dead(self) -> int:
        return self._dead

    def open(self, wake: Callable[[], None]) -> None:
        """Nothing: the connection is made when there is something to send."""

    def attend(self, *, caught_up: bool) -> None:
        """Nothing."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def send(self, events: Sequence[StoredEvent]) -> None:
        if self.window > 1 and events[0].seq > self._singly_until:
            self._deliver(events)
            return
        for event in events:
            self._deliver([event])

    def _deliver(self, events: Sequence[StoredEvent]) -> None:
        body = events[0].json if self.window == 1 else b"[" + b",".join(event.json for event in events) + b"]"
        message_id = events[0].id if len(events) == 1 else f"{events[0].id}_{events[-1].id}"
        status, reason, pause_s = self._post(message_id, body)
        if 200 <= status < 300:
            self._refuses_all = False
        elif status in REFUSES_THE_EVENT:
            self._take_refusal(events, f"{status} {reason}")
        elif status >= 500 or status in TRY_LATER:
            raise Unreachable(f"{self.address} answered {status} {reason}", pause_s=pause_s)
        elif 300 <= status < 400:
            raise Refused(
                f"{self.address} points to another address ({status}), which is not followed; give that one as url"
            )
        else:
            raise Refused(f"{self.address} answered {status} {reason}; check url, headers and secret")
        self._settled = events[-1].seq

    def _take_refusal(self, events: Sequence[StoredEvent], answer: str) -> None:
        """Returns if the event is given up."""
        if len(events) > 1:
            self._singly_until = events[-1].seq
            raise Unreachable(f"{self.address} answered {answer} to {len(events)} events at once", pause_s=0.1)
        event = events[0]
        times = self._refused[1] + 1 if self._refused[0] == event.seq else 1
        self._refused = event.seq, times
        if times < self._config.refusals and not self._refuses_all:
            raise Unreachable(f"{self.address} refused event {event.id}: {answer}")
        self._log.bury(self._name, event, answer)
        self._dead += 1
        self._refuses_all = True

    # -------------------------------------------------------------------------------------------------------- a request

    def _post(self, message_id: str, body: bytes) -> tuple[int, str, float | None]:
        """Status, its words, and the pause asked for. Raises Unreachable."""
        headers = self._headers(message_id, body)
        fresh = self._connection is None
        try:
            return self._request(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if fresh or isinstance(error, TimeoutError):
                raise Unreachable(f"{self.address}: {_words(error)}") from None
        try:  # the other side had closed a connection that lay idle
            return self._request(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self.address}: {_words(error)}") from None

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"streamdet/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
        }
        if self._url.username:
            login = f"{unquote(self._url.username)}:{unquote(self._url.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        secret = secret_of(self._config.secret, self._config.secret_file, "webhooks.secret")
        if secret is not None:
            headers["webhook-signature"] = signature(secret, message_id, timestamp, body)
        return {**headers, **{name: value.reveal() for name, value in self._config.headers.items()}}

    def _request(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, float | None]:
        connection = self._connection = self._connection or self._connect()
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        late = threading.Event()

        def give_up() -> None:
            """The library's time-out is per read: who sends a byte now and then would hold us for ever."""
            late.set()
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._config.timeout_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            connection.request("POST", target, body, headers)
            with connection.getresponse() as answer:
                body_read = answer.read(ANSWER_BYTES)
                if late.is_set() or (answer.length and len(body_read) < ANSWER_BYTES):
                    raise http.client.IncompleteRead(body_read)
                if not answer.isclosed():
                    self.close()
                return answer.status, answer.reason[:100], _retry_after(answer.headers.get("Retry-After"))
        except (OSError, http.client.HTTPException):
            if late.is_set():
                raise TimeoutError(f"no whole answer within {self._config.timeout_s:g} s") from None
            raise
        finally:
            timer.cancel()

    def _connect(self) -> http.client.HTTPConnection:
        host, timeout_s = self._url.hostname or "", self._config.timeout_s
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, self._url.port, timeout=timeout_s)
        try:
            context = ssl.create_default_context(cafile=self._config.ca_file)
        except (OSError, ValueError) as error:
            raise Refused(f"{self.address}: ca_file {self._config.ca_file} cannot be used: {_words(error)}") from None
        return http.client.HTTPSConnection(host, self._url.port, timeout=timeout_s, context=context)

    def _check_secret(self, secret: str | None) -> None:
        try:
            if secret is not None:
                signature(secret, "", 0, b"")
        except ValueError:
            raise ConfigError(f"webhooks: {self.address}: after whsec_ the secret must be base64") from None


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isdigit():
        return min(float(value), LONGEST_PAUSE_S)
    with contextlib.suppress(ValueError, TypeError):
        moment = email.utils.parsedate_to_datetime(value)
        return min(max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds()), LONGEST_PAUSE_S)
    return None


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer broke off"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
