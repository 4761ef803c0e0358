"""Lanes, compiled: a Numba type around an LLVM vector of 16 numbers, with ``+ - * /``."""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

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


def _splat_ir(builder: ir.IRBuilder, scalar: ir.Value, lanes: ir.VectorType) -> ir.Value:
    """Emit the vector whose every lane is ``scalar``."""
    zero = ir.Constant(ir.IntType(32), 0)
    undefined = ir.Constant(lanes, ir.Undefined)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    one = builder.insert_element(undefined, scalar, zero)
    return builder.shuffle_vector(one, undefined, mask)


def _pointer(
    context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, index: Any
) -> tuple[ir.Value, int]:
    """Emit the pointer to the lanes ``array[t, j, :]``; return it and its alignment."""
    zero = ir.Constant(context.get_value_type(types.intp), 0)
    struct = context.make_array(array_type)(context, builder, array)
    pointer = cgutils.get_item_pointer(
        context, builder, array_type, struct, [*index, zero], wraparound=False
    )
    element = context.get_value_type(array_type.dtype)
    vector = ir.VectorType(element, LANES).as_pointer()
    return builder.bitcast(pointer, vector), context.get_abi_sizeof(element)


@intrinsic
def load(typingctx: Any, array: Any, t: Any, j: Any) -> Any:
    """Return the lanes ``array[t, j, :]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, align = _pointer(context, builder, signature.args[0], args[0], args[1:3])
        return builder.load(pointer, align=align)

    return LanesType(array.dtype)(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, t: Any, j: Any, value: Any) -> Any:
    """Write lanes to ``array[t, j, :]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, align = _pointer(context, builder, signature.args[0], args[0], args[1:3])
        builder.store(args[3], pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, value), codegen


@intrinsic
def zeros(typingctx: Any, array: Any) -> Any:
    """Return lanes of zeros of the dtype of ``array``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), [0.0] * LANES)

    return LanesType(array.dtype)(array), codegen


@intrinsic
def _splat(typingctx: Any, like: Any, scalar: Any) -> Any:
    signature = like(like, scalar)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = context.cast(builder, args[1], signature.args[1], signature.args[0].dtype)
        return _splat_ir(builder, value, args[0].type)

    return signature, codegen


def _binary(instruction: str) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], args[1], flags=_FLAGS)

        return a(a, b), codegen

    return operation


def _install_operator(symbol: Any, instruction: str) -> None:
    operation = _binary(instruction)

    @overload(symbol)
    def implement(a, b):
        if isinstance(a, LanesType) and isinstance(b, LanesType):
            return lambda a, b: operation(a, b)
        if isinstance(a, LanesType) and isinstance(b, types.Number):
            return lambda a, b: operation(a, _splat(a, b))
        if isinstance(a, types.Number) and isinstance(b, LanesType):
            return lambda a, b: operation(_splat(b, a), b)
        return None


for _symbol, _instruction in [
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
]:
    _install_operator(_symbol, _instruction)


@intrinsic
def _clip(typingctx: Any, x: Any, bound: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x = args[0]
        high = context.cast(builder, args[1], signature.args[1], signature.args[0].dtype)
        high = _splat_ir(builder, high, x.type)
        low = builder.fsub(ir.Constant(x.type, [-0.0] * LANES), high)
        # Ordered comparisons are false for NaN, which therefore stays.
        x = builder.select(builder.fcmp_ordered("<", x, low), low, x)
        return builder.select(builder.fcmp_ordered(">", x, high), high, x)

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
        # Halve by pairs: the order of the sum is fixed, whatever the processor.
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
    """Logistic function by way of tanh, which cannot overflow."""
    raise NotImplementedError  # compiled below


def _rational_tanh(x):
    # The 13/6 rational function of Eigen's and XLA's float32 tanh, |x| clipped where it is 1 when
    # its steps are fused multiply-adds (unfused: 7.90531110763549805, and an error of 4e-7).
    x = _clip(x, 7.99881172180175781)
    s = x * x
    p = s * -2.76076847742355e-16 + 2.00018790482477e-13
    p = s * p + -8.60467152213735e-11
    p = s * p + 5.12229709037114e-08
    p = s * p + 1.48572235717979e-05
    p = s * p + 6.37261928875436e-04
    p = s * p + 4.89352455891786e-03
    q = s * 1.19825839466702e-06 + 1.18534705686654e-04
    q = s * q + 2.26843463243900e-03
    q = s * q + 4.89352518554385e-03
    return x * p / q


@overload(tanh)
def _overload_tanh(x):
    if isinstance(x, LanesType) and x.dtype == types.float32:
        return _rational_tanh
    if isinstance(x, LanesType):
        return lambda x: _map_tanh(x)
    return None


@overload(sigmoid)
def _overload_sigmoid(x):
    return lambda x: 0.5 * tanh(0.5 * x) + 0.5
