"""Events to an MQTT broker; acknowledged is what the broker has acknowledged (PUBACK)."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from streamdet.config import MqttConfig, secret_of
from streamdet.delivery.mqtt_topics import Message, Objects, Presence, Topics, discovery
from streamdet.delivery.outcome import Refused, Unreachable
from streamdet.errors import ConfigError, DependencyError
from streamdet.protocols import EventLog
from streamdet.types import StoredEvent

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["MqttDestination"]

CONNECT_S = 10.0
KEEPALIVE_S = 30
PUBLISHED_AT_ONCE = 20  # messages without acknowledgement, as mosquitto allows
BESIDE = 64  # messages that are no events and not acknowledged yet, at most
LOOK_S = 0.5  # statuses of cameras are looked at this often
GOODBYE_S = 3.0
REFUSALS = ("not authorized", "bad user name", "banned", "bad authentication", "client identifier", "use another")


class MqttDestination:
    """One broker. A new client for every connection: what the last one had not got acknowledged is sent again from the log.

    Events go to PREFIX/STREAM/events, and the life of each object to PREFIX/events. When there is nothing to catch up with,
    counts, statuses and statistics follow. MQTT 5, which tells refusals; 3.1.1 if the broker knows no better.
    """

    window = 100

    def __init__(
        self,
        config: MqttConfig,
        events: EventLog,
        *,
        since_seq: int,
        cameras: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        facts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """`since_seq`: events up to there are an earlier process's. Raises DependencyError, ConfigError."""
        try:
            import paho.mqtt.client  # noqa: F401
        except ImportError:
            raise DependencyError("MQTT needs the package paho-mqtt: pip install 'streamdet[mqtt]'") from None
        secret_of(config.password, config.password_file, "mqtt.password")  # a mistake is told before anything runs
        if any(sign in config.host for sign in "@/ "):  # it would stand in every log
            raise ConfigError(
                "mqtt.host is a name or number only; prefix, user and password have settings of their own"
            )
        self._config = config
        self._log = events
        self._cameras, self._facts = cameras, facts
        self._topics = Topics(config.prefix)
        self._presence: Presence | None = None
        self._objects = Objects()
        self._witnessed = since_seq  # the last event that presence has seen
        self._protocol = 5
        self._most_unacknowledged = PUBLISHED_AT_ONCE
        self._client: Client | None = None
        self._context: _Context | None = None
        self._acknowledged: deque[tuple[int, str | None]] = deque()  # filled by paho's thread: message, refusal
        self._gone: str | None = None
        self._events: deque[tuple[int, set[int]]] = deque()  # seq, messages not acknowledged
        self._message_of: dict[int, set[int]] = {}
        self._beside: set[int] = set()
        self._settled = 0
        self._announced: dict[str, Message] = {}
        self._statuses: dict[str, bytes] = {}
        self._told_s = self._looked_s = 0.0
        self._birth = threading.Event()

    @property
    def settled(self) -> int:
        return self._settled

    @property
    def dead(self) -> int:
        return 0

    # ------------------------------------------------------------------------------------------------------- connecting

    def open(self, wake: Callable[[], None]) -> None:
        self._acknowledged.clear()
        self._events.clear()
        self._message_of.clear()
        self._beside.clear()
        self._gone = None
        self._announced, self._statuses = {}, {}
        self._told_s = self._looked_s = 0.0
        if self._presence is None:
            self._presence = Presence(self._topics, self._log.kinds())
        self._presence.forget_told()
        before_most = self._most_unacknowledged
        said = self._connect(wake)
        if (
            said is None and self._most_unacknowledged < before_most
        ):  # the broker wants fewer at once: once more, with that
            self.close()
            self._gone = None
            said = self._connect(wake)
        if said and self._protocol == 5 and ("protocol" in said or "closed" in said):  # a broker from before 2019
            self.close()
            self._gone, self._protocol, before = None, 4, said
            said = self._connect(wake)
            if said:
                self._protocol, said = 5, before
        if said:
            raise (Refused if any(word in said.lower() for word in REFUSALS) else Unreachable)(said)
        self._publish(Message(self._topics.available, b"online", retain=True))
        if self._config.discovery and self._client is not None:
            self._client.subscribe(f"{self._config.discovery_prefix}/status", qos=1)

    def _connect(self, wake: Callable[[], None]) -> str | None:
        """Connect and wait for the broker's answer; what it said against it, None if it took us. Raises Unreachable."""
        config, answer, answered = self._config, [""], threading.Event()
        client = self._client = self._make_client()

        def on_connect(client: Client, _: object, flags: object, reason: Any, properties: Any) -> None:
            answer[0] = str(reason) if reason.is_failure else ""
            self._most_unacknowledged = min(getattr(properties, "ReceiveMaximum", PUBLISHED_AT_ONCE), PUBLISHED_AT_ONCE)
            answered.set()

        def on_disconnect(client: Client, _: object, flags: object, reason: Any, properties: Any) -> None:
            if not answered.is_set():
                answer[0] = "the broker closed the connection"
            self._gone = f"the broker closed the connection ({reason})"
            answered.set()
            wake()

        def on_publish(client: Client, _: object, message: int, reason: Any, properties: Any) -> None:
            self._acknowledged.append((message, str(reason) if reason.is_failure else None))
            wake()

        def on_message(client: Client, _: object, message: Any) -> None:
            if message.payload == b"online":  # Home Assistant was started
                self._birth.set()
                wake()

        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.on_publish, client.on_message = on_publish, on_message
        try:
            client.connect(config.host, self._port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            if self._context is not None:
                self._context.abandon()
            kind = Refused if isinstance(error, ssl.SSLCertVerificationError) else Unreachable
            raise kind(f"cannot connect to {self.address}: {_reason(error)}") from None
        client.loop_start()
        if not answered.wait(CONNECT_S):
            raise Unreachable(f"{self.address} did not answer within {CONNECT_S:.0f} s")
        return f"{self.address}: {answer[0]}" if answer[0] else None

    def _make_client(self) -> Client:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        config = self._config
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=config.client_id or f"streamdet-{socket.gethostname()[:20]}-{os.getpid()}-{os.urandom(3).hex()}",
            protocol=MQTTProtocolVersion(self._protocol),
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S
        client.suppress_exceptions = True
        client.max_inflight_messages_set(self._most_unacknowledged)
        client.will_set(self._topics.available, b"offline", qos=1, retain=True)
        password = secret_of(config.password, config.password_file, "mqtt.password")
        if config.user is not None or password is not None:
            client.username_pw_set(config.user or "", password)
        self._context = self._make_context() if self._tls else None
        if self._context is not None:
            client.tls_set_context(self._context)
        return client

    def _make_context(self) -> _Context:
        config, context = self._config, _Context(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if config.ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(config.ca_file)
            if config.cert_file is not None:
                context.load_cert_chain(config.cert_file, config.key_file)
        except (OSError, ValueError) as error:
            files = ", ".join(file for file in (config.ca_file, config.cert_file, config.key_file) if file)
            raise Refused(f"the certificates for {self.address} ({files}) cannot be used: {_reason(error)}") from None
        return context

    @property
    def _tls(self) -> bool:
        return self._config.tls or self._config.ca_file is not None or self._config.cert_file is not None

    @property
    def _port(self) -> int:
        return self._config.port or (8883 if self._tls else 1883)

    @property
    def address(self) -> str:
        return f"mqtt{'s' if self._tls else ''}://{self._config.host}:{self._port}/{self._topics.prefix}"

    # ---------------------------------------------------------------------------------------------------------- sending

    def witness(self, events: Sequence[StoredEvent]) -> None:
        """Who is there is not known from a part of the events: counts are of all, whatever `only` says."""
        for row in events:
            if row.seq > self._witnessed and self._presence is not None:
                self._presence.take(row, row.event.epoch)
                self._witnessed = row.seq

    def send(self, events: Sequence[StoredEvent]) -> None:
        for row in events:
            messages = {self._publish(Message(self._topics.events(row.stream), row.json))}
            if self._config.frigate:
                messages.add(self._publish(Message(self._topics.objects, self._objects.message(row, row.event))))
            self._events.append((row.seq, messages))
            for message in messages:
                self._message_of[message] = messages

    def attend(self, *, caught_up: bool) -> None:
        self._read_acknowledgements()
        if self._gone is not None:
            raise Unreachable(self._gone)
        if self._presence is not None and caught_up and len(self._beside) < BESIDE:
            self._tell_beside(self._presence)

    def _read_acknowledgements(self) -> None:
        while self._acknowledged:
            message, refusal = self._acknowledged.popleft()
            if refusal is not None:
                raise Refused(f"{self.address} does not take our messages: {refusal}; check what the user may publish")
            self._beside.discard(message)
            self._message_of.pop(message, set()).discard(message)
        while self._events and not self._events[0][1]:
            self._settled = self._events.popleft()[0]

    def _publish(self, message: Message) -> int:
        if self._client is None:
            raise Unreachable("not connected")
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
        if info.rc != 0:
            raise Unreachable(self._gone or "the connection was lost")
        return int(info.mid)

    def _tell_beside(self, presence: Presence) -> None:
        """Counts that changed, statuses, discovery and statistics: what is true now, so nothing of it is kept for later."""
        messages = presence.changes()
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S or self._birth.is_set():
            self._looked_s = now_s
            messages += self._about_cameras(presence, now_s)
        self._beside.update(self._publish(message) for message in messages)

    def _about_cameras(self, presence: Presence, now_s: float) -> list[Message]:
        messages = self._discoveries(presence) if self._config.discovery else []
        due = now_s - self._told_s >= self._config.stats_s or not self._told_s
        cameras = self._cameras()
        for name, status in cameras.items():
            state = msgspec.json.encode({"state": status.get("state"), "reason": status.get("reason")})
            if due or self._statuses.get(name) != state:
                self._statuses[name] = state
                messages.append(Message(self._topics.status(name), msgspec.json.encode(status), retain=True))
        if due:
            self._told_s = now_s
            messages.append(Message(self._topics.stats, msgspec.json.encode({**self._facts(), "cameras": cameras})))
        return messages

    def _discoveries(self, presence: Presence) -> list[Message]:
        again = self._birth.is_set()
        self._birth.clear()
        found = []
        for stream in sorted({*presence.seen, *self._cameras()}):
            labels, zones = presence.seen.get(stream, (set(), set()))
            message = discovery(self._topics, stream, labels, zones, discovery_prefix=self._config.discovery_prefix)
            if again or self._announced.get(stream) != message:
                self._announced[stream] = message
                found.append(message)
        return found

    def close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if self._gone is None and client.is_connected():
            info = client.publish(self._topics.available, b"offline", qos=1, retain=True)
            if info.rc == 0:
                info.wait_for_publish(GOODBYE_S)
        client.disconnect()
        client.loop_stop()


class _Context(ssl.SSLContext):
    """Remembers the connection being made: paho does not close one whose handshake fails."""

    _latest: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        self._latest = super().wrap_socket(*arguments, **options)
        return self._latest

    def abandon(self) -> None:
        if self._latest is not None:
            self._latest.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", "") or error.reason or error)
    return str(getattr(error, "strerror", None) or error)
