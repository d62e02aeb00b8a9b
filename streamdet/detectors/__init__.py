"""Networks and what reads their answers."""

import os

# Since 1.29 onnxruntime's builds for Linux and macOS tell Microsoft of every session (model names, hashes, timings) under an
# identifier kept in ~/.cache, unless this is said before the first session. What a camera's model is called is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
