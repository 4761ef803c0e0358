"""Lanes: 16 members of a batch as one value, so that a kernel reads as if it were scalar.

The batch is the SIMD axis. Arrays inside the kernels end in an axis of length LANES, and
``load(h, i, t, j)`` is the row ``h[i, t, j, :]`` as one value that takes ``+ - * /``. Compiled, it
is an LLVM vector (one AVX-512 register of float32, two of AVX2, four of NEON), so nothing depends
on the loop vectoriser and its alias checks. Uncompiled (NUMBA_DISABLE_JIT=1), it is a NumPy array.
"""

import numba

if numba.config.DISABLE_JIT:
    from . import _lanes_numpy as _form
    from . import _lanes_numpy as _maths
    from . import _lanes_numpy as _moves
else:
    from . import _lanes_llvm as _form  # type: ignore[no-redef]
    from . import _maths_llvm as _maths  # type: ignore[no-redef]
    from . import _moves_llvm as _moves  # type: ignore[no-redef]

LANES, HAS_PERMUTE = _form.LANES, _moves.HAS_PERMUTE
load, lane, store, weight = _form.load, _form.lane, _form.store, _form.weight
zeros, total, tanh, sigmoid = _form.zeros, _form.total, _form.tanh, _form.sigmoid
transpose, transpose_rows, lookup = _moves.transpose, _moves.transpose_rows, _moves.lookup
add_by_code, add_quads = _moves.add_by_code, _moves.add_quads
zeros_like, step, absolute = _maths.zeros_like, _maths.step, _maths.absolute
exp, log, sqrt, sin, cos = _maths.exp, _maths.log, _maths.sqrt, _maths.sin, _maths.cos
maximum, minimum, select = _maths.maximum, _maths.minimum, _maths.select
