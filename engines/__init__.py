"""The embedded models and the recipe that makes them. Not imported by streamdet; `python -m engines.train` needs `[train]`."""

import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # for its parts that use onnxruntime directly; see streamdet.detectors
