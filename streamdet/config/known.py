"""What may be written where: the keys a branch of the configuration knows, for who mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any

__all__ = ["did_you_mean", "known_keys", "with_known_keys"]

_UNKNOWN = re.compile(r"^(?:(?P<path>[^:` ]+): )?unknown key `(?P<key>[^`]+)`$")
FEW = 12  # keys that are all told


def with_known_keys(said: str, schema: dict[str, Any]) -> str:
    """`said` with what may stand there instead, if it is "PATH: unknown key `x`" and PATH is in the JSON Schema."""
    found = _UNKNOWN.match(said)
    if found is None:
        return said
    known = known_keys(schema, found["path"] or "")
    close = did_you_mean(found["key"], known)
    there = f"; there are: {', '.join(known)}" if known and len(known) <= FEW and not close else ""
    return f"{said}{close}{there}"


def did_you_mean(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def known_keys(schema: dict[str, Any], path: str) -> list[str]:
    """The keys of the branch at `path` (``rules.lines[0]``) of a JSON Schema; none if there is no such branch."""
    node = schema
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        inner = _inside(schema, node, step)
        if inner is None:
            return []
        node = inner
    return list(_branch(schema, node).get("properties", {}))


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
