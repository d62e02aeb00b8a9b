"""Names of the array types every noun is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["F32", "I16", "I32", "I64", "U8", "Bool"]

U8 = NDArray[np.uint8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
