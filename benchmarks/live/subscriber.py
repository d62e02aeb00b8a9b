"""An MQTT subscriber in a process of its own: every event with the instant it came, as JSON lines.

python benchmarks/live/subscriber.py --port P --file FILE
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import paho.mqtt.client as mqtt


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", required=True)
    arguments = parser.parse_args()
    with open(arguments.file, "w", buffering=1, encoding="utf-8") as file:

        def arrived(client: Any, _: Any, message: Any) -> None:
            at_s = time.monotonic()
            file.write(json.dumps({"at_s": at_s, "event": json.loads(message.payload)}) + "\n")

        def connected(client: Any, *_: Any) -> None:
            client.subscribe("streamdet/+/events", qos=1)

        def subscribed(*_: Any) -> None:
            nonlocal told
            if not told:
                print("READY", flush=True)
            told = True

        told = False
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bench", clean_session=False)
        client.on_message, client.on_connect, client.on_subscribe = arrived, connected, subscribed
        client.reconnect_delay_set(0.2, 1)
        client.connect("127.0.0.1", arguments.port)
        client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    main()
