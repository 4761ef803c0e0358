"""Lanes: 16 members of a batch as one value, so that a kernel reads as if it were scalar.

The batch is the SIMD axis. Arrays inside the kernels end in an axis of length LANES, and
``load(h, i, t, j)`` is the row ``h[i, t, j, :]`` as one value that takes ``+ - * /``. Compiled, it
is an LLVM vector (one AVX-512 register of float32, two of AVX2, four of NEON), so nothing hangs on
the loop vectoriser and its alias checks. Uncompiled (NUMBA_DISABLE_JIT=1), it is a NumPy array.
"""

import numba

if numba.config.DISABLE_JIT:
    from . import _lanes_numpy as _form
else:
    from . import _lanes_llvm as _form  # type: ignore[no-redef]

HAS_PERMUTE, LANES = _form.HAS_PERMUTE, _form.LANES
load, lane, store, weight = _form.load, _form.lane, _form.store, _form.weight
zeros, total = _form.zeros, _form.total
tanh, sigmoid, lookup = _form.tanh, _form.sigmoid, _form.lookup
transpose, transpose_rows = _form.transpose, _form.transpose_rows
add_by_code, add_quads = _form.add_by_code, _form.add_quads
