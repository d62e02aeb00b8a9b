"""``streamdet deliver``: send what an event store still holds for its destinations."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from streamdet.errors import EXIT_DONE, EXIT_INTERRUPTED, UndeliveredError, UsageError
from streamdet.options import Help

__all__ = ["add"]


def add(commands: Any) -> None:
    text = "send what an event store still holds: what was not delivered, or all of it"
    sub = commands.add_parser("deliver", help=text, description=text, formatter_class=Help)
    sub.add_argument("store", metavar="STORE.db", help="the event store; no other process may be using it")
    sub.add_argument(
        "--events", action="append", default=[], metavar="URL", help="to whom: mqtt://HOST/PREFIX, https://, ..."
    )
    sub.add_argument("--config", metavar="FILE.yaml", help="... or the destinations of this configuration")
    sub.add_argument("--all", action="store_true", help="everything in the store, delivered before or not")
    sub.add_argument("--wait", type=float, default=30.0, metavar="S", help="give up after so long (default 30)")
    sub.add_argument("-v", "--verbose", action="count", default=0)
    sub.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from streamdet.config import Config, load, with_values
    from streamdet.delivery import Deliveries
    from streamdet.sinks.store import EventStore
    from streamdet.telling import has_destinations

    base = load(arguments.config) if arguments.config else Config()
    values: dict[str, Any] = {"store.path": arguments.store, "store.drain_s": arguments.wait}
    config = with_values(base, {**values, "output.events": arguments.events} if arguments.events else values)
    if not has_destinations(config):
        raise UsageError("nobody to deliver to; name one with --events URL, or a configuration with --config FILE")
    if not Path(arguments.store).is_file():
        raise UsageError(f"{arguments.store}: there is no such event store")
    with EventStore(arguments.store, config.store) as store:
        deliveries = Deliveries(config, store, from_start=arguments.all)
        try:
            with deliveries:
                pass  # leaving drains
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
    for status in deliveries.ended:
        sys.stderr.write(f"{status.delivered} events delivered to {status.address}\n")
    if deliveries.undelivered:
        told = "; ".join(
            f"{one.events} not delivered to {one.address} ({one.why or 'too slow'})" for one in deliveries.undelivered
        )
        raise UndeliveredError(f"{told}; they stay in {arguments.store}, run this again later")
    return EXIT_DONE
