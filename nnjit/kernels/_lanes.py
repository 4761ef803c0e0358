"""Lanes: 16 members of a batch as one value, so that a kernel reads as if it were scalar.

The batch is the SIMD axis. Arrays inside the kernels end in an axis of length LANES, and
``load(h, t, j)`` is the row ``h[t, j, :]`` as one value that takes ``+ - * /``. Compiled, it is an
LLVM vector (one AVX-512 register of float32, two of AVX2, four of NEON), so nothing hangs on the
loop vectoriser and its alias checks. Uncompiled (NUMBA_DISABLE_JIT=1), it is a NumPy array.
"""

import numba

if numba.config.DISABLE_JIT:
    from ._lanes_numpy import LANES, load, sigmoid, store, tanh, total, zeros
else:
    from ._lanes_llvm import LANES, load, sigmoid, store, tanh, total, zeros

__all__ = ["LANES", "load", "sigmoid", "store", "tanh", "total", "zeros"]
