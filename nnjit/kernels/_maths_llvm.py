"""Functions of lanes, compiled: exp, log, maximum and others, and calls of the C library."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from ._lanes_llvm import LANES, LanesType, clip, splat_ir

_INT = ir.VectorType(ir.IntType(32), LANES)


def _splat(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _call(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """Emit a call of an LLVM vector intrinsic."""
    kind = args[0].type
    letter = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
    signature = ir.FunctionType(kind, [kind] * len(args))
    full = f"llvm.{name}.v{LANES}{letter}"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, full), args)


def _of_llvm(name: str, n_args: int) -> Any:
    if n_args == 1:

        @intrinsic
        def function(typingctx: Any, x: Any) -> Any:
            return x(x), lambda context, builder, sig, args: _call(builder, name, *args)

        return function

    @intrinsic
    def function_of_two(typingctx: Any, x: Any, y: Any) -> Any:
        return x(x, y), lambda context, builder, sig, args: _call(builder, name, *args)

    return function_of_two


absolute, sqrt = _of_llvm("fabs", 1), _of_llvm("sqrt", 1)
_largest, _smallest = _of_llvm("maximum", 2), _of_llvm("minimum", 2)


@intrinsic
def zeros_like(typingctx: Any, x: Any) -> Any:
    """Return lanes of zeros of the dtype of lanes."""
    return x(x), lambda context, builder, sig, args: _splat(args[0].type, 0.0)


@intrinsic
def step(typingctx: Any, x: Any) -> Any:
    """Return 1 where x is above 0, else 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero, one = _splat(args[0].type, 0.0), _splat(args[0].type, 1.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), one, zero)

    return x(x), codegen


@intrinsic
def select(typingctx: Any, left: Any, t: Any, x: Any, y: Any) -> Any:
    """Return x in the lanes with more than t steps left, y in the others."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, t, x, y = args
        t = splat_ir(builder, builder.sitofp(t, left.type.element), left.type)
        return builder.select(builder.fcmp_ordered("<", t, left), x, y)

    return x(left, types.intp, x, x), codegen


def _by_lane(name: str) -> Any:
    """Return a function that calls the C library for every lane."""

    @intrinsic
    def function(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element = args[0].type.element
            ending = "f" if isinstance(element, ir.FloatType) else ""
            call = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(element, [element]), name + ending
            )
            out = args[0]
            for lane in range(LANES):
                at = ir.Constant(ir.IntType(32), lane)
                value = builder.call(call, [builder.extract_element(args[0], at)])
                out = builder.insert_element(out, value, at)
            return out

        return x(x), codegen

    return function


_exp_by_lane, _log_by_lane = _by_lane("exp"), _by_lane("log")
sin, cos = _by_lane("sin"), _by_lane("cos")


@intrinsic
def _times_power_of_two(typingctx: Any, x: Any, shifted: Any) -> Any:
    """Return x * 2**n in two steps, where ``shifted`` is n plus `_MAGIC`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, shifted = args
        n = builder.sub(builder.bitcast(shifted, _INT), _splat(_INT, _MAGIC_BITS))
        half = builder.ashr(n, _splat(_INT, 1))
        for power in (half, builder.sub(n, half)):
            bits = builder.shl(builder.add(power, _splat(_INT, 127)), _splat(_INT, 23))
            x = builder.fmul(x, builder.bitcast(bits, x.type))
        return x

    return x(x, shifted), codegen


@intrinsic
def _exponent(typingctx: Any, x: Any) -> Any:
    """Return e for ``x = m * 2**e`` with m from ``sqrt(1 / 2)`` to ``sqrt(2)``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.sub(builder.bitcast(args[0], _INT), _splat(_INT, _ROOT_BITS))
        return builder.sitofp(builder.ashr(bits, _splat(_INT, 23)), args[0].type)

    return x(x), codegen


@intrinsic
def _mantissa(typingctx: Any, x: Any) -> Any:
    """Return m of `_exponent`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _INT)
        above = builder.sub(bits, _splat(_INT, _ROOT_BITS))
        above = builder.and_(above, _splat(_INT, -(1 << 23)))
        return builder.bitcast(builder.sub(bits, above), args[0].type)

    return x(x), codegen


@intrinsic
def _log_special_cases(typingctx: Any, x: Any, y: Any) -> Any:
    """Return y, the logarithm of x, corrected for x that is 0, infinite, below 0 or NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = args
        zero, top = _splat(x.type, 0.0), _splat(x.type, float("inf"))
        y = builder.select(builder.fcmp_ordered("==", x, zero), _splat(x.type, float("-inf")), y)
        y = builder.select(builder.fcmp_ordered("==", x, top), top, y)
        wrong = builder.fcmp_unordered("<", x, zero)
        return builder.select(wrong, _splat(x.type, float("nan")), y)

    return x(x, y), codegen


_MAGIC, _MAGIC_BITS = 12582912.0, 0x4B400000  # 1.5 * 2**23: adding it rounds to a whole number
_ROOT_BITS = 0x3F3504F3  # sqrt(1 / 2)


def exp(x):
    """Exponential; float32: Cephes' polynomial of degree 7, an error of 1 bit at most."""
    raise NotImplementedError  # compiled below


def log(x):
    """Natural logarithm; float32: Cephes' polynomial, an error of 1 bit at most."""
    raise NotImplementedError  # compiled below


def maximum(x, y):
    """Return the larger of two, lanes or a number; NaN where one is NaN."""
    raise NotImplementedError  # compiled below


def minimum(x, y):
    """Return the smaller of two, lanes or a number; NaN where one is NaN."""
    raise NotImplementedError  # compiled below


def _exp32(x):
    x = clip(x, 104.0)
    shifted = x * 1.44269504088896341 + _MAGIC
    n = shifted - _MAGIC
    r = x - n * 0.693359375
    r = r + n * 2.12194440e-4
    p = r * 1.9875691500e-4 + 1.3981999507e-3
    p = r * p + 8.3334519073e-3
    p = r * p + 4.1665795894e-2
    p = r * p + 1.6666665459e-1
    p = r * p + 5.0000001201e-1
    return _times_power_of_two(r * r * p + r + 1.0, shifted)


def _log32(x):
    e, z = _exponent(x), _mantissa(x) - 1.0
    p = z * 7.0376836292e-2 - 1.1514610310e-1
    p = z * p + 1.1676998740e-1
    p = z * p - 1.2420140846e-1
    p = z * p + 1.4249322787e-1
    p = z * p - 1.6668057665e-1
    p = z * p + 2.0000714765e-1
    p = z * p - 2.4999993993e-1
    p = z * p + 3.3333331174e-1
    s = z * z
    y = z * s * p - e * 2.12194440e-4
    return _log_special_cases(x, z + (y - 0.5 * s) + e * 0.693359375)


@overload(exp)
def _overload_exp(x):
    return _exp32 if x.dtype == types.float32 else lambda x: _exp_by_lane(x)


@overload(log)
def _overload_log(x):
    return _log32 if x.dtype == types.float32 else lambda x: _log_by_lane(x)


def _of_two(function: Any) -> Any:
    def implementation(x, y):
        if isinstance(x, LanesType) and isinstance(y, LanesType):
            return lambda x, y: function(x, y)
        if isinstance(x, LanesType):
            return lambda x, y: function(x, zeros_like(x) + y)
        return lambda x, y: function(zeros_like(y) + x, y)

    return implementation


overload(maximum)(_of_two(_largest))
overload(minimum)(_of_two(_smallest))
