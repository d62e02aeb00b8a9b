"""Pictures over HTTP: what `POST /small-object-detection` takes and what it refuses."""

from __future__ import annotations

from streamdet.config.tree import Node, Positive, Size

__all__ = ["PicturesConfig"]


class PicturesConfig(Node, frozen=True):
    """The service that PaddleX's clients know. `streamdet serve --model M` without a configuration file is just this."""

    enabled: bool = False  # beside cameras; it holds a network of its own (`model`)
    urls: bool = False  # fetch pictures from http(s) addresses on the public internet; never from others
    visualize: bool = True  # answer with the annotated picture, unless the request says otherwise
    body_bytes: Size = 100_663_296  # largest request; base64 makes a file a third larger
    most_px: Size = 67_108_864  # largest picture
    timeout_s: Positive = 60.0  # for a request to arrive, and again for its answer
    waiting: Size = 256  # requests at once; more are told to come again (429)
