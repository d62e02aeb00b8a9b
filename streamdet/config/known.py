"""What may be written where: the keys a branch of the configuration knows, the words a leaf takes, for who mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any

__all__ = ["did_you_mean", "known_keys", "with_known"]

_UNKNOWN = re.compile(r"^(?:(?P<path>[^:` ]+): )?unknown key `(?P<key>[^`]+)`$")
_NO_WORD = re.compile(r"^(?P<path>[^: ]+): Invalid enum value '.*'$")
FEW = 12  # keys that are all told


def with_known(said: str, schema: dict[str, Any]) -> str:
    """`said` with what may stand there instead, if it is of an unknown key or word at a path that is in the JSON Schema."""
    found = _UNKNOWN.match(said)
    if found is not None:
        known = known_keys(schema, found["path"] or "")
        close = did_you_mean(found["key"], known)
        there = f"; there are: {', '.join(known)}" if known and len(known) <= FEW and not close else ""
        return f"{said}{close}{there}"
    found = _NO_WORD.match(said)
    words = _words(schema, found["path"]) if found is not None else []
    return f"{said.replace('Invalid enum value', 'there is no')}; use {' or '.join(words)}" if words else said


def did_you_mean(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def known_keys(schema: dict[str, Any], path: str) -> list[str]:
    """The keys of the branch at `path` (``rules.lines[0]``) of a JSON Schema; none if there is no such branch."""
    node = _at(schema, path)
    return [] if node is None else list(_branch(schema, node).get("properties", {}))


def _words(schema: dict[str, Any], path: str) -> list[str]:
    node = _at(schema, path)
    return [] if node is None else [word for word in _branch(schema, node).get("enum", ()) if isinstance(word, str)]


def _at(schema: dict[str, Any], path: str) -> dict[str, Any] | None:
    node: dict[str, Any] | None = schema
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        if node is not None:
            node = _inside(schema, node, step)
    return node


def _inside(schema: dict[str, Any], node: dict[str, Any], step: str) -> dict[str, Any] | None:
    branch = _branch(schema, node)
    if step.startswith("["):
        within = branch.get("items", branch.get("additionalProperties"))
    else:
        within = branch.get("properties", {}).get(step, branch.get("additionalProperties"))
    return within if isinstance(within, dict) else None


def _branch(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """`node` behind its reference; of alternatives, the one that has something inside."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    inner = [_branch(schema, option) for option in node.get("anyOf", ())]
    return next((option for option in inner if option.get("type") in ("object", "array")), node)
