"""Vectors of sixteen single-precision numbers for compiled kernels.

Loops over rows of eight complex taps are too short for a compiler to vectorise well, and rows of
scratch arrays passed as views cost more than the work.  With these functions a kernel says which
sixteen numbers are handled together; LLVM turns them into as many instructions as the processor
needs (one with AVX-512, two with AVX2, four with SSE or NEON).

All arrays are one-dimensional, contiguous and of float32.  Nothing checks their bounds: callers
leave room for fifteen numbers behind the last one.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.core.cgutils import ir
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 16
"""Numbers in a vector."""

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_HALF = ir.VectorType(_FLOAT, LANES // 2)
_INDEX = ir.VectorType(ir.IntType(32), LANES)


class _Lanes(types.Type):
    """Numba's type of a vector."""

    def __init__(self):
        super().__init__(name=f"float32x{LANES}")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


_lanes = _Lanes()
_FLAGS = ("nsz", "contract", "reassoc")


def _pointer(context, builder, array_type, array, index, kind):
    """Pointer to `kind` at element `index` of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(_INDEX, order))


def _single(builder, value):
    """A number in lane 0 of a vector."""
    return builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value,
                                  ir.Constant(ir.IntType(32), 0))


def _is_array(array) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" \
        and array.dtype == types.float32


@intrinsic
def load(typingctx, array, index):
    """array[index : index + 16]."""
    if not (_is_array(array) and isinstance(index, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        at = _pointer(context, builder, signature.args[0], *args, _VECTOR)
        return builder.load(at, align=4)

    return _lanes(array, index), codegen


@intrinsic
def store(typingctx, array, index, value):
    """array[index : index + 16] = value."""
    if not (_is_array(array) and isinstance(index, types.Integer) and value is _lanes):
        return None

    def codegen(context, builder, signature, args):
        at = _pointer(context, builder, signature.args[0], *args[:2], _VECTOR)
        builder.store(args[2], at, align=4)
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic
def spread(typingctx, array, index):
    """array[index] in all lanes."""
    if not (_is_array(array) and isinstance(index, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        one = builder.load(_pointer(context, builder, signature.args[0], *args, _FLOAT))
        one = _single(builder, one)
        return _shuffle(builder, one, one, [0] * LANES)

    return _lanes(array, index), codegen


@intrinsic
def pairs(typingctx, array, index):
    """Eight numbers from array[index] on, each twice."""
    if not (_is_array(array) and isinstance(index, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        half = builder.load(_pointer(context, builder, signature.args[0], *args, _HALF), align=4)
        return _shuffle(builder, half, half, [k // 2 for k in range(LANES)])

    return _lanes(array, index), codegen


@intrinsic
def splat(typingctx, value):
    """One float32 in all lanes."""
    if value != types.float32:
        return None

    def codegen(context, builder, signature, args):
        one = _single(builder, args[0])
        return _shuffle(builder, one, one, [0] * LANES)

    return _lanes(value), codegen


@intrinsic
def alternate(typingctx, first, second):
    """first, second, first, second, ..."""
    if first != types.float32 or second != types.float32:
        return None

    def codegen(context, builder, signature, args):
        a, b = (_single(builder, x) for x in args)
        return _shuffle(builder, a, b, [0, LANES] * (LANES // 2))

    return _lanes(first, second), codegen


@intrinsic
def halves(typingctx, first, second):
    """first in the lower eight lanes, second in the upper ones."""
    if first != types.float32 or second != types.float32:
        return None

    def codegen(context, builder, signature, args):
        a, b = (_single(builder, x) for x in args)
        return _shuffle(builder, a, b, [0] * (LANES // 2) + [LANES] * (LANES // 2))

    return _lanes(first, second), codegen


@intrinsic
def mul(typingctx, a, b):
    """a b."""
    if not (a is _lanes and b is _lanes):
        return None

    def codegen(context, builder, signature, args):
        return builder.fmul(*args, flags=_FLAGS)

    return _lanes(a, b), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a b + c, rounded once."""
    if not (a is _lanes and b is _lanes and c is _lanes):
        return None

    def codegen(context, builder, signature, args):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32")
        return builder.call(function, args)

    return _lanes(a, b, c), codegen


@intrinsic
def fnma(typingctx, a, b, c):
    """c - a b, rounded once."""
    if not (a is _lanes and b is _lanes and c is _lanes):
        return None

    def codegen(context, builder, signature, args):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32")
        return builder.call(function, [builder.fneg(args[0]), args[1], args[2]])

    return _lanes(a, b, c), codegen


@intrinsic
def sum_pairs(typingctx, a):
    """(sum of the even lanes, sum of the odd lanes)."""
    if a is not _lanes:
        return None

    def codegen(context, builder, signature, args):
        value, width = args[0], LANES
        while width > 2:
            width //= 2
            high = _shuffle(builder, value, value,
                            [(k + width) % LANES for k in range(LANES)])
            value = builder.fadd(value, high, flags=_FLAGS)
        lane = [builder.extract_element(value, ir.Constant(ir.IntType(32), k)) for k in (0, 1)]
        return context.make_tuple(builder, signature.return_type, lane)

    return types.UniTuple(types.float32, 2)(a), codegen
