"""What `POST /small-object-detection` takes and gives, as OpenAPI 3.1: for people, generators and fuzzers."""

from __future__ import annotations

from typing import Any

from streamdet import __version__
from streamdet.config import PicturesConfig

__all__ = ["document"]

_SCORE = {"type": "number", "minimum": 0, "maximum": 1}


def document(config: PicturesConfig) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": _request(config)}}}
    statuses = {
        "403": "an address that is not fetched here",
        "408": "the request took too long to arrive",
        "413": "too many bytes or pixels",
        "422": "no such request, or no picture",
        "429": "too much at once, or not done in time; come again",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "streamdet: small object detection", "version": __version__},
        "paths": {
            "/small-object-detection": {
                "post": {
                    "operationId": "infer",
                    "summary": "Detect small objects in a picture",
                    "requestBody": body,
                    "responses": {
                        "200": _answer("what was found", {"result": _result()}),
                        **{status: _answer(said) for status, said in statuses.items()},
                    },
                }
            },
            "/health": {
                "get": {
                    "operationId": "checkHealth",
                    "summary": "Whether it answers",
                    "responses": {"200": _answer("it does")},
                }
            },
        },
    }


def _request(config: PicturesConfig) -> dict[str, Any]:
    fetched = "or its http(s) address" if config.urls else "(addresses are not fetched here)"
    return {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": "string", "description": f"a picture file in base64 {fetched}"},
            "threshold": {
                "description": "least score: one, or by class id or name (others 0.5); null: 0.5",
                "anyOf": [_SCORE, {"type": "object", "additionalProperties": _SCORE}, {"type": "null"}],
            },
            "visualize": {
                "type": ["boolean", "null"],
                "description": f"answer with the annotated picture; null: {str(config.visualize).lower()}",
            },
        },
    }


def _result() -> dict[str, Any]:
    found = {
        "type": "object",
        "required": ["bbox", "categoryId", "categoryName", "score"],
        "properties": {
            "bbox": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            "categoryId": {"type": "integer"},
            "categoryName": {"type": "string"},
            "score": _SCORE,
        },
    }
    return {
        "type": "object",
        "required": ["detectedObjects", "image"],
        "properties": {
            "detectedObjects": {"type": "array", "items": found},
            "image": {"type": ["string", "null"], "description": "JPEG in base64"},
        },
    }


def _answer(said: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["logId", "errorCode", "errorMsg", *(more or {})],
        "properties": {
            "logId": {"type": "string", "format": "uuid"},
            "errorCode": {"type": "integer"},
            "errorMsg": {"type": "string"},
            **(more or {}),
        },
    }
    return {"description": said, "content": {"application/json": {"schema": schema}}}
