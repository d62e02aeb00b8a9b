"""The operations as an OpenAPI 3.1 document, made from the very types that check the calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from streamdet import __version__
from streamdet.service.contract import Problem
from streamdet.service.operation import Operation

__all__ = ["document"]

_REF = "#/components/schemas/{name}"
_SAID = {
    400: "The body is not JSON",
    401: "The token is missing or wrong",
    403: "Not allowed",
    404: "There is none",
    409: "Does not go together with what is there",
    413: "The body is too large",
    415: "The body is not application/json",
    422: "A value is not what it should be",
    503: "Not now",
}


def document(operations: Sequence[Operation], *, token: bool) -> dict[str, Any]:
    """The document; `token`: whether calls need one."""
    kinds = [Problem, *(kind for op in operations for kind in (op.body, op.answer) if kind is not None)]
    schemas, components = _simple(msgspec.json.schema_components(_unique(kinds), ref_template=_REF))
    schema_of = dict(zip(map(str, _unique(kinds)), schemas))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schema_of)
    security = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if token else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamdet",
            "version": __version__,
            "description": "Cameras, events, zones, health and metrics of a running streamdet.",
        },
        "paths": paths,
        "components": {"schemas": components, **security},
        **({"security": [{"token": []}]} if token else {}),
    }


def _described(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation)],
        "responses": _responses(operation, schema_of),
    }
    if operation.path == "/healthz":
        told["security"] = []  # whoever asks may know whether all is well, and without the token no more
    if operation.body is not None:
        schema = schema_of[str(operation.body)]
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return told


def _responses(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.answer is not None:
        answer["content"] = {"application/json": {"schema": schema_of[str(operation.answer)]}}
    elif operation.status != 204:
        answer["content"] = {operation.media: {}}
    statuses = {401, 403, *operation.problems}
    if operation.query is not None:
        statuses.add(422)
    if operation.body is not None:
        statuses |= {400, 413, 415, 422}
    problem = {"application/json": {"schema": schema_of[str(Problem)]}}
    told = {str(operation.status): answer}
    for status in sorted(statuses):
        content = answer.get("content") if operation.path == "/healthz" and status == 503 else problem
        told[str(status)] = {"description": _SAID[status], "content": content}
    return told


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    (_,), components = _simple(msgspec.json.schema_components([operation.query], ref_template=_REF))
    fields: dict[str, Any] = components[operation.query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _plain(schema)} for name, schema in fields.items()
    ]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A query cannot say null: what may be absent is just not required."""
    if "anyOf" in schema:
        (known,) = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return dict(known)
    return {key: value for key, value in schema.items() if not (key == "default" and value is None)}


def _simple(schema: Any) -> Any:
    """Tuples of one type as arrays of fixed length: few tools know ``prefixItems``."""
    if isinstance(schema, list | tuple):
        return [_simple(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _simple(value) for key, value in schema.items()}
    first, *others = told.get("prefixItems", [None])
    if first is not None and all(other == first for other in others):
        del told["prefixItems"]
        told["items"] = first
    return told


def _unique(kinds: Sequence[Any]) -> list[Any]:
    return list({str(kind): kind for kind in kinds}.values())
