"""Operations across lanes, compiled: transposition, and sums and look-ups by code."""

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._lanes_llvm import LANES, pointer_to

HAS_PERMUTE = bool(get_host_cpu_features().get("avx512f"))


def _shuffle(builder: Any, a: Any, b: Any, mask: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask))


def _unpack(width: int, high: int) -> list[int]:
    """Return the mask that interleaves ``width`` lanes of a and b, low or high in blocks of 4."""
    block = [4 // 2 * high + i for i in range(2)]
    pairs = (
        [x for i in block for x in (i, i + LANES)]
        if width == 1
        else [2 * high, 2 * high + 1, 2 * high + LANES, 2 * high + 1 + LANES]
    )
    return [4 * quarter + x for quarter in range(4) for x in pairs]


def _quarters(a: tuple[int, int], b: tuple[int, int]) -> list[int]:
    """Return the mask that takes two quarters of a and two of b."""
    return [4 * q + i for q in (*a, 4 + b[0], 4 + b[1]) for i in range(4)]


def _four_columns(builder: Any, rows: list[Any]) -> list[Any]:
    """Emit four values from four rows: quarter q of value c is column 4 q + c."""
    low = [_shuffle(builder, rows[i], rows[i + 1], _unpack(1, 0)) for i in (0, 2)]
    high = [_shuffle(builder, rows[i], rows[i + 1], _unpack(1, 1)) for i in (0, 2)]
    return [_shuffle(builder, a, b, _unpack(2, h)) for a, b in (low, high) for h in (0, 1)]


def _transpose_ir(builder: Any, rows: list[Any]) -> list[Any]:
    """Emit the transpose of 16 rows of 16: 64 shuffles, each within quarters or of quarters."""
    columns: list[Any] = [None] * LANES
    fours = [_four_columns(builder, rows[g : g + 4]) for g in range(0, LANES, 4)]
    for c in range(4):
        for half in (0, 1):
            pair = (2 * half, 2 * half + 1)
            s0 = _shuffle(builder, fours[0][c], fours[1][c], _quarters(pair, pair))
            s1 = _shuffle(builder, fours[2][c], fours[3][c], _quarters(pair, pair))
            columns[8 * half + c] = _shuffle(builder, s0, s1, _quarters((0, 2), (0, 2)))
            columns[8 * half + 4 + c] = _shuffle(builder, s0, s1, _quarters((1, 3), (1, 3)))
    return columns


def _move_transposed(
    context: Any, builder: Any, types_: Any, arrays: Any, ij: Any, src: Any
) -> Any:
    """Emit ``dst[i, j + a, b] = array at src[b][a]``; ``src`` lists the 16 indices to load from."""
    rows = []
    for index in src:
        pointer, align = pointer_to(context, builder, types_[1], arrays[1], index)
        rows.append(builder.load(pointer, align=align))
    for a, row in enumerate(_transpose_ir(builder, rows)):
        j = builder.add(ij[1], ir.Constant(ij[1].type, a))
        pointer, align = pointer_to(context, builder, types_[0], arrays[0], (ij[0], j))
        builder.store(row, pointer, align=align)
    return context.get_dummy_value()


@intrinsic
def transpose(typingctx: Any, dst: Any, i: Any, j: Any, src: Any, s: Any, t: Any, k: Any) -> Any:
    """Write ``dst[i, j + a, b] = src[s, t, k + b, a]`` for a, b below LANES."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        s, t, k = args[4:]
        kl = [(s, t, builder.add(k, ir.Constant(k.type, b))) for b in range(LANES)]
        types_ = (signature.args[0], signature.args[3])
        return _move_transposed(
            context, builder, types_, (args[0], args[3]), (args[1], args[2]), kl
        )

    n = types.intp
    return types.void(dst, n, n, src, n, n, n), codegen


@intrinsic
def transpose_rows(typingctx: Any, dst: Any, i: Any, j: Any, src: Any, rows: Any, q: Any) -> Any:
    """Write ``dst[i, j + a, b] = src[rows[b], q + a]`` for a, b below LANES."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows_type = signature.args[4]
        struct = context.make_array(rows_type)(context, builder, args[4])
        kl = []
        for b in range(LANES):
            index = [ir.Constant(args[1].type, b)]
            pointer = cgutils.get_item_pointer(
                context, builder, rows_type, struct, index, wraparound=False
            )
            kl.append((builder.load(pointer), args[5]))
        types_ = (signature.args[0], signature.args[3])
        return _move_transposed(
            context, builder, types_, (args[0], args[3]), (args[1], args[2]), kl
        )

    n = types.intp
    return types.void(dst, n, n, src, rows, n), codegen


@intrinsic
def add_by_code(typingctx: Any, sums: Any, codes: Any, i: Any, t: Any, y: Any, j: Any) -> Any:
    """Add ``y[i, t, j : j + LANES, n]`` to ``sums[i, codes[i, t, n], j:]`` for every lane n."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_type, codes_type, _, _, y_type, _ = signature.args
        i, t, j = args[2], args[3], args[5]
        number = lambda value: ir.Constant(t.type, value)  # noqa: E731
        rows = []
        for r in range(LANES):
            index = (i, t, builder.add(j, number(r)))
            pointer, align = pointer_to(context, builder, y_type, args[4], index)
            rows.append(builder.load(pointer, align=align))
        first = builder.bitcast(
            pointer_to(context, builder, codes_type, args[1], (i, t))[0], ir.IntType(8).as_pointer()
        )
        for n, row in enumerate(_transpose_ir(builder, rows)):
            code = builder.zext(builder.load(builder.gep(first, [number(n)])), t.type)
            pointer, align = pointer_to(context, builder, sums_type, args[0], (i, code, j))
            old = builder.load(pointer, align=align)
            builder.store(builder.fadd(old, row), pointer, align=align)
        return context.get_dummy_value()

    n = types.intp
    return types.void(sums, codes, n, n, y, n), codegen


@intrinsic
def add_quads(typingctx: Any, sums: Any, codes: Any, i: Any, t: Any, y: Any, j: Any) -> Any:
    """Add ``y[i, t, j : j + 4, n]`` to quad n of ``sums[0, codes[i, t, n]]`` for every lane n.

    A row of y beyond the last is replaced by the last. Each lane has a separate quad for each
    level, so that no addition depends on the one before. Sums are (1, V, 4, LANES), contiguous.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums_type, codes_type, _, _, y_type, _ = signature.args
        i, t, j = args[2], args[3], args[5]
        number = lambda value: ir.Constant(t.type, value)  # noqa: E731
        y = context.make_array(y_type)(context, builder, args[4])
        last = builder.sub(cgutils.unpack_tuple(builder, y.shape, 4)[2], number(1))
        rows = []
        for r in range(4):
            row = builder.add(j, number(r))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            pointer, align = pointer_to(context, builder, y_type, args[4], (i, t, row))
            rows.append(builder.load(pointer, align=align))
        first, _ = pointer_to(context, builder, codes_type, args[1], (i, t))
        first = builder.bitcast(first, ir.IntType(8).as_pointer())
        quad = ir.VectorType(rows[0].type.element, 4)
        data = context.make_array(sums_type)(context, builder, args[0]).data
        data = builder.bitcast(data, quad.as_pointer())
        for c, column in enumerate(_four_columns(builder, rows)):
            for q in range(4):  # the quad of lane 4 q + c
                lane = number(4 * q + c)
                code = builder.zext(builder.load(builder.gep(first, [lane])), t.type)
                pointer = builder.gep(data, [builder.mul(code, number(LANES))])
                pointer = builder.gep(pointer, [lane])  # a constant offset from the level's first
                mask = ir.Constant(ir.VectorType(ir.IntType(32), 4), [4 * q + g for g in range(4)])
                value = builder.shuffle_vector(column, column, mask)
                old = builder.load(pointer, align=align)
                builder.store(builder.fadd(old, value), pointer, align=align)
        return context.get_dummy_value()

    n = types.intp
    return types.void(sums, codes, n, n, y, n), codegen


@intrinsic
def lookup(typingctx: Any, table: Any, codes: Any, i: Any, t: Any) -> Any:
    """Return ``table[codes[i, t, :]]`` for a table of LANES entries, held as lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, _ = pointer_to(context, builder, signature.args[1], args[1], args[2:])
        wide = ir.VectorType(ir.IntType(32), LANES)
        index = builder.zext(builder.load(pointer, align=1), wide)
        out = ir.Constant(args[0].type, ir.Undefined)
        for lane in range(LANES):  # LLVM turns this into one permutation if the processor has it
            at = ir.Constant(ir.IntType(32), lane)
            value = builder.extract_element(args[0], builder.extract_element(index, at))
            out = builder.insert_element(out, value, at)
        return out

    return table(table, codes, types.intp, types.intp), codegen
