"""All sides of ``python -m benchmarks.cells`` compute the same states and gradients."""

import shutil

import numpy as np
import pytest

from benchmarks import cells

pytest.importorskip("torch")


@pytest.mark.parametrize("name", cells.STEPS)
def test_the_loop_in_pytorch_is_the_same_cell(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "N_STEPS", 5)
    ours = cells.nnjit_call(name, 3, False)()[0].transpose(0, 2, 1)
    np.testing.assert_allclose(ours, cells.torch_call(name, 3, False)().numpy(), atol=1e-4)
    grads, theirs = cells.nnjit_call(name, 3, True)(), cells.torch_call(name, 3, True)()
    for key, value in grads.items():
        np.testing.assert_allclose(value, theirs[key].numpy(), atol=1e-3, rtol=1e-3, err_msg=key)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("default")
def test_the_compiled_step_in_pytorch_is_the_same_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "N_STEPS", 5)
    ours = cells.nnjit_call("two_states", 3, True)()
    theirs = cells.torch_compile_call("two_states", 3, True)()
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key].numpy(), atol=1e-3, rtol=1e-3, err_msg=key)


def test_the_scan_in_jax_is_the_same_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.setattr(cells, "N_STEPS", 5)
    ours = cells.nnjit_call("two_states", 3, True)()
    theirs = cells.jax_call("two_states", 3, True)()
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], atol=1e-3, rtol=1e-3, err_msg=key)
