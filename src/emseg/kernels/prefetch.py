"""Loads memory into the cache before it is needed."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def prefetch(_typing: Any, array: types.Array, place: types.Integer) -> tuple[Any, Callable]:
    """Requests the cache line of array[place] without waiting; `place` may be out of range."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        view = context.make_array(kind)(context, builder, arguments[0])
        item = cgutils.get_item_pointer(context, builder, kind, view, arguments[1:], False)
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        asked = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, asked, "llvm.prefetch.p0")
        # The numbers mean: for reading, into all levels of the cache, data.
        builder.call(function, [builder.bitcast(item, byte), flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), build
