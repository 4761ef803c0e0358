"""Waiting for another thread inside a kernel: atomic counters, and yielding the core."""

import os
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _counter(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    """Emit the pointer to ``array[row, 0]``."""
    struct = context.make_array(array_type)(context, builder, array)
    index = [row, ir.Constant(row.type, 0)]
    return cgutils.get_item_pointer(context, builder, array_type, struct, index, wraparound=False)


@intrinsic
def arrive(typingctx: Any, counters: Any, row: Any, value: Any) -> Any:
    """Write ``counters[row, 0] = value`` with release order: earlier writes are visible first."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _counter(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.intp, types.int64), codegen


@intrinsic
def arrived(typingctx: Any, counters: Any, row: Any, value: Any) -> Any:
    """Tell whether ``counters[row, 0] >= value``, with acquire order: later reads come after it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _counter(context, builder, signature.args[0], args[0], args[1])
        return builder.icmp_signed(">=", builder.load_atomic(pointer, "acquire", 8), args[2])

    return types.boolean(counters, types.intp, types.int64), codegen


@intrinsic
def relax(typingctx: Any) -> Any:
    """Yield the core to another thread, on systems that have a call for it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if os.name == "posix":
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(
                cgutils.get_or_insert_function(builder.module, function, "sched_yield"), []
            )
        return context.get_dummy_value()

    return types.void(), codegen
