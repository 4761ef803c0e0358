"""Training as the seed does it, step by step beside torch's autograd."""

import numpy as np
import pytest
import torch
import twins
from registry import CELLS, LEVELS, as_signal, every_cell, from_tiles

from nnjit.layers import Codes, Dense, Dropout, Flatten
from nnjit.model import Sequential
from nnjit.training import losses
from nnjit.training.optimizers import SGD

N, T, TEMPERATURE, LEARNING_RATE, CLIP = 16, 40, 2.5, 0.01, 0.25


def twin_loss(cell, x, y, params, mask):
    """Return the summed loss of the seed's network: MSE of a softmax with temperature."""
    recurrent, first, head = params.values()
    hidden = cell.torch(torch.tensor(as_signal(x)), **recurrent).flatten(1)
    hidden = torch.relu(hidden @ first["W"] + first["b"]) * torch.tensor(mask)
    p = torch.softmax((hidden @ head["W"] + head["b"]) / TEMPERATURE, dim=1)
    return ((p - torch.tensor(y)) ** 2).mean(dim=1).sum()


def twin_step(params, scale, clipped_layer):
    """Take one step of SGD; return whether a layer was clipped."""
    clipped = False
    for layer, group in params.items():
        factor = scale
        if layer == clipped_layer:
            norm = scale * torch.sqrt(sum((w.grad**2).sum() for w in group.values()))
            clipped = bool(norm > CLIP)
            factor = scale * min(1.0, CLIP / norm.item())
        for w in group.values():
            with torch.no_grad():
                w -= LEARNING_RATE * factor * w.grad
            w.grad = None
    return clipped


@every_cell
@pytest.mark.parametrize("H", [1, 3])
@pytest.mark.parametrize("rate", [0, 0.5])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_five_steps_equal_torch(cell, H, rate, reduction, rng):
    softmax = {"name": "softmax", "temperature": TEMPERATURE}
    stack = [cell.layer(H, return_sequences=True), Flatten(), Dense(64, "relu"), Dropout(rate)]
    model = Sequential([*stack, Dense(2, softmax)], "float64").build(Codes(T, LEVELS), seed=1)
    params = {layer: twins.leaves(group) for layer, group in model.params.items()}
    loss, scale = losses.get("mse"), 1 / N if reduction == "mean" else 1
    clipped_layer = "rnn" if cell is CELLS[0] else None
    settings = {clipped_layer: {"clip_norm": CLIP}} if clipped_layer else {}
    optimizer = SGD(LEARNING_RATE, layers=settings)

    clipped = []
    for _ in range(5):
        x = rng.integers(0, LEVELS, (N, T), np.uint8)
        y = np.eye(2)[rng.integers(0, 2, N)]
        z, caches = model.forward(x, training=True, rng=rng)
        values, dz = loss(z, model.activation, y)
        optimizer.step(model.params, model.backward(scale * dz, caches))

        mask = from_tiles(caches[3], N) if rate else np.ones((N, 64))
        expected = twin_loss(cell, x, y, params, mask)
        expected.backward()
        clipped.append(twin_step(params, scale, clipped_layer))
        assert values.sum() == pytest.approx(expected.item(), abs=1e-10)
        for layer, group in model.params.items():
            for name, w in group.items():
                twin = params[layer][name].detach()
                np.testing.assert_allclose(w, twin, rtol=0, atol=1e-10, err_msg=f"{layer}.{name}")
    if clipped_layer and reduction == "sum":
        assert any(clipped)  # or the test above says nothing of clipping
