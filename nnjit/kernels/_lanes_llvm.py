"""Lanes, compiled: a Numba type around an LLVM vector of 16 numbers, with ``+ - * /``."""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    overload,
    register_jitable,
    register_model,
)

LANES = 16
_FLAGS = ("contract",)


class LanesType(types.Type):
    """Numba's type of LANES numbers of one dtype."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: LanesType) -> None:
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, LANES))


def splat_ir(builder: ir.IRBuilder, scalar: ir.Value, lanes: ir.VectorType) -> ir.Value:
    """Emit the vector whose every lane is ``scalar``."""
    zero = ir.Constant(ir.IntType(32), 0)
    undefined = ir.Constant(lanes, ir.Undefined)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    one = builder.insert_element(undefined, scalar, zero)
    return builder.shuffle_vector(one, undefined, mask)


def pointer_to(
    context: Any, builder: Any, array_type: Any, array: Any, index: Any
) -> tuple[ir.Value, int]:
    """Emit the pointer to the lanes at an index of an array; return it and their alignment."""
    element = context.get_value_type(array_type.dtype)
    if array_type.ndim == 4:
        i, t, j = index
        start = _plane(context, builder, array_type, array, i, t)
        pointer = builder.gep(start, [builder.mul(j, ir.Constant(j.type, LANES))])
    else:
        index = [*index]
        if len(index) < array_type.ndim:  # a whole row of lanes, not LANES numbers from a column on
            index.append(ir.Constant(context.get_value_type(types.intp), 0))
        struct = context.make_array(array_type)(context, builder, array)
        pointer = cgutils.get_item_pointer(
            context, builder, array_type, struct, index, wraparound=False
        )
    vector = ir.VectorType(element, LANES).as_pointer()
    return builder.bitcast(pointer, vector), context.get_abi_sizeof(element)


def _plane(context: Any, builder: Any, array_type: Any, array: Any, i: Any, t: Any) -> Any:
    """Emit the pointer to ``array[i, t]``, whose rows of lanes are contiguous.

    The compiler then addresses all rows relative to one pointer.
    """
    struct = context.make_array(array_type)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, struct.strides, 4)
    offset = builder.add(builder.mul(i, strides[0]), builder.mul(t, strides[1]))
    return cgutils.pointer_add(builder, struct.data, offset, struct.data.type)


def _emit_load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pointer, align = pointer_to(context, builder, signature.args[0], args[0], args[1:])
    return builder.load(pointer, align=align)


def _emit_store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pointer, align = pointer_to(context, builder, signature.args[0], args[0], args[1:-1])
    builder.store(args[-1], pointer, align=align)
    return context.get_dummy_value()


@intrinsic
def load(typingctx: Any, array: Any, i: Any, t: Any, j: Any) -> Any:
    """Return the lanes ``array[i, t, j, :]``, of a 3-D array ``array[i, t, j : j + LANES]``."""
    return LanesType(array.dtype)(array, types.intp, types.intp, types.intp), _emit_load


@intrinsic
def lane(typingctx: Any, array: Any, i: Any, t: Any, j: Any, n: Any) -> Any:
    """Return the number ``array[i, t, j, n]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, i, t, j, n = args
        start = _plane(context, builder, signature.args[0], array, i, t)
        offset = builder.add(builder.mul(j, ir.Constant(j.type, LANES)), n)
        return builder.load(builder.gep(start, [offset]))

    return array.dtype(array, *[types.intp] * 4), codegen


@intrinsic
def store(typingctx: Any, array: Any, i: Any, t: Any, j: Any, value: Any) -> Any:
    """Write lanes to ``array[i, t, j, :]``, of a 3-D array to ``array[i, t, j : j + LANES]``."""
    return types.void(array, types.intp, types.intp, types.intp, value), _emit_store


@intrinsic
def weight(typingctx: Any, w: Any, k: Any, m: Any) -> Any:
    """Return the number ``w[k, m]``, of a 3-D array ``w[m // 8, k, m % 8]``.

    Unlike Numba's indexing it does not handle negative indices, which would make a product a third
    slower.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w_type, (array, k, m) = signature.args[0], args
        index = [k, m]
        if w_type.ndim == 3:
            eight = ir.Constant(m.type, 8)
            index = [builder.udiv(m, eight), k, builder.urem(m, eight)]
        struct = context.make_array(w_type)(context, builder, array)
        pointer = cgutils.get_item_pointer(
            context, builder, w_type, struct, index, wraparound=False
        )
        return builder.load(pointer)

    return w.dtype(w, *[types.intp] * 2), codegen


@intrinsic
def zeros(typingctx: Any, array: Any) -> Any:
    """Return lanes of zeros of the dtype of ``array``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), [0.0] * LANES)

    return LanesType(array.dtype)(array), codegen


def _install_operator(symbol: Any, instruction: str) -> None:
    """Register an operator between lanes, and between lanes and a number, with Numba."""

    class _Signature(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            lanes = [a for a in args if isinstance(a, LanesType)]
            others = [a for a in args if not isinstance(a, LanesType | types.Number)]
            return signature(lanes[0], *args) if lanes and not others else None

    infer_global(symbol)(_Signature)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = context.get_value_type(sig.return_type)
        values = [
            value
            if isinstance(kind, LanesType)
            else splat_ir(builder, context.cast(builder, value, kind, sig.return_type.dtype), lanes)
            for value, kind in zip(args, sig.args, strict=True)
        ]
        return getattr(builder, instruction)(*values, flags=_FLAGS)

    for kinds in [(LanesType, LanesType), (LanesType, types.Number), (types.Number, LanesType)]:
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _instruction in [
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
]:
    _install_operator(_symbol, _instruction)


@intrinsic
def clip(typingctx: Any, x: Any, bound: Any) -> Any:
    """Return x, at least -bound and at most bound."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x = args[0]
        high = context.cast(builder, args[1], signature.args[1], signature.args[0].dtype)
        high = splat_ir(builder, high, x.type)
        low = builder.fsub(ir.Constant(x.type, [-0.0] * LANES), high)
        # Ordered comparisons are false for NaN, which therefore stays NaN. The bound is the first
        # operand, so that LLVM selects the min and max instructions of the processor.
        x = builder.select(builder.fcmp_ordered("<", high, x), high, x)
        return builder.select(builder.fcmp_ordered(">", low, x), low, x)

    return x(x, bound), codegen


@intrinsic
def _map_tanh(typingctx: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = args[0].type.element
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(element, [element]), "tanh"
        )
        out = args[0]
        for lane in range(LANES):
            at = ir.Constant(ir.IntType(32), lane)
            value = builder.call(function, [builder.extract_element(args[0], at)])
            out = builder.insert_element(out, value, at)
        return out

    return x(x), codegen


@intrinsic
def total(typingctx: Any, x: Any) -> Any:
    """Sum of the lanes, in a fixed order (by halves)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # Add the two halves until one lane is left: the same order on every processor.
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            half = [
                builder.shuffle_vector(
                    value, value, ir.Constant(ir.VectorType(ir.IntType(32), width), list(at))
                )
                for at in (range(width), range(width, 2 * width))
            ]
            value = builder.fadd(half[0], half[1])
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return x.dtype(x), codegen


def tanh(x):
    """Hyperbolic tangent; float32: a rational function, absolute error below 3e-7."""
    raise NotImplementedError  # compiled below


def sigmoid(x):
    """Logistic function, computed with tanh, so that it cannot overflow."""
    raise NotImplementedError  # compiled below


def _rational_tanh(scale: float) -> Any:
    """Return the function ``scale * tanh(scale * x)``; scale is a power of 2, so it is exact.

    It is the minimax rational function of degree 9/8 in relative error (6e-9 before rounding, found
    with Lawson's reweighting). |x| is clipped at the point from which on the result is 1 with fused
    multiply-adds. Terms are paired (Estrin) and x is multiplied in early, for a short chain of
    dependent operations: a recurrence waits for it in every step.
    """
    s = scale * scale
    a0, a1, a2 = 1.0 * s, 1.342272311449051e-1 * s**2, 3.5453885793685913e-3 * s**3
    a3, a4 = 2.1443975128931925e-5 * s**4, 1.4552597349393182e-8 * s**5
    b1, b2 = 4.6756047010421753e-1 * s, 2.6065681129693985e-2 * s**2
    b3, b4 = 3.367678145878017e-4 * s**3, 8.25740244181361e-7 * s**4
    bound = 8.03189468383789 / scale

    def function(x):
        x = clip(x, bound)
        s = x * x
        s2, x_s2 = s * s, x * (s * s)
        p0, p2 = s * a1 + a0, s * a3 + a2
        q0, q2 = s * b1 + 1.0, s * b3 + b2
        p2, q2 = s2 * a4 + p2, s2 * b4 + q2
        return (x_s2 * p2 + x * p0) / (s2 * q2 + q0)

    return function


@overload(tanh)
def _overload_tanh(x):
    if isinstance(x, LanesType) and x.dtype == types.float32:
        return _rational_tanh(1.0)
    if isinstance(x, LanesType):
        return lambda x: _map_tanh(x)
    return None


_half_tanh = register_jitable(_rational_tanh(0.5))


@overload(sigmoid)
def _overload_sigmoid(x):
    if isinstance(x, LanesType) and x.dtype == types.float32:
        return lambda x: _half_tanh(x) + 0.5
    return lambda x: 0.5 * tanh(0.5 * x) + 0.5
