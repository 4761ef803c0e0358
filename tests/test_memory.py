import numpy as np
import pytest

from nnjit.runtime.memory import empty


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize(
    "shape", [(0,), (3, 0, 16), (5, 16), (1, 700, 33, 16), (1 << 20,)], ids=str
)
def test_arrays_are_what_numpy_gives(shape, dtype):
    array = empty(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[...] = 7
    assert (array == 7).all()


def test_large_arrays_begin_at_a_line_and_are_apart():
    arrays = [empty((1, n, 100, 16), np.float32) for n in range(100, 110)]
    for i, array in enumerate(arrays):
        assert array.ctypes.data % 64 == 0
        array[...] = i
    for i, array in enumerate(arrays):
        assert (array == i).all()
