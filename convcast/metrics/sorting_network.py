"""Sorting networks for ensembles, and compiled sums over sorted members.

Sixteen points are sorted at once in vector registers, by a network of comparisons that is the same for every point
(Batcher's odd-even merge sort, 1968). numba would loop over a table of comparisons in memory; here each comparison
becomes an LLVM instruction. Compiling takes a few seconds and is kept in numba's cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
"""Number of points sorted together."""
WRITTEN_OUT = 128
"""Maximum number of members with code of their own; its length and compile time grow faster than the members."""


@lru_cache(maxsize=128)
def sorting_network(n: int) -> NDArray[np.int32]:
    """Comparisons of Batcher's odd-even merge sort of n values: (comparison, 2) positions to put in order."""
    found: list[tuple[int, int]] = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, j + min(k, n - j - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        found.append((i, i + k))
            k //= 2
        p *= 2
    return np.array(found, np.int32).reshape(-1, 2)


def _sum_pairs(typing_context: Any, block: Any, first: Any, members: Any, sums: Any) -> Any:  # noqa: ARG001
    """Set `sums[first : first + LANES]` to sum_{i<j} |x_i - x_j| of the columns of `block` (member, point).

    `members` is a tuple of as many entries as there are rows: its length is known to the compiler.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: tuple[Any, ...]) -> Any:
        source = context.make_array(signature.args[0])(context, builder, arguments[0])
        target = context.make_array(signature.args[3])(context, builder, arguments[3])
        vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), LANES)
        wide = ir.VectorType(ir.DoubleType(), LANES)
        stride = builder.extract_value(source.strides, 0)
        rows = builder.bitcast(builder.gep(source.data, [arguments[1]]), ir.IntType(8).as_pointer())
        values = []
        for member in range(members.count):
            row = builder.gep(rows, [builder.mul(stride, ir.Constant(stride.type, member))])
            values.append(builder.load(builder.bitcast(row, vector.as_pointer()), align=4))
        for low, high in sorting_network(members.count).tolist():
            a, b = values[low], values[high]
            less = builder.fcmp_ordered("<", a, b)
            values[low], values[high] = builder.select(less, a, b), builder.select(less, b, a)
        # In the sorted sum, x_(k) is the larger of k pairs and the smaller of M - 1 - k.
        total = ir.Constant(wide, [0.0] * LANES)
        for rank, value in enumerate(values):
            weight = ir.Constant(wide, [2.0 * rank - members.count + 1] * LANES)
            exact = value if value.type == wide else builder.fpext(value, wide)
            total = builder.fadd(total, builder.fmul(exact, weight))
        place = builder.bitcast(builder.gep(target.data, [arguments[1]]), wide.as_pointer())
        builder.store(total, place, align=8)
        return context.get_dummy_value()

    return types.void(block, first, members, sums), generate


sum_pairs: Any = intrinsic(_sum_pairs)
