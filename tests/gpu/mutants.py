"""Does a battery find what is wrong with a source? Asked in a process of its own, for some mutants crash."""

from __future__ import annotations

import faulthandler
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

Verdict = Callable[[str, str], str]


def _ask(verdict: Verdict, text: str, folder: str, answer: Connection) -> None:
    faulthandler.disable()  # a crash is one of the answers
    answer.send(verdict(text, folder))


def survives(verdict: Verdict, text: str, folder: Path) -> bool:
    """Whether `verdict` (of source text and a folder to build in) is "": nothing is wrong. A crash is a find."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may wait for ever
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_ask, args=(verdict, text, str(folder), there))
    child.start()
    there.close()
    try:
        return here.poll(100) and bool(here.recv() == "")  # what never ends is a find, too
    except EOFError:
        return False
    finally:
        child.kill()
        child.join(60)
