"""The cells in torch, for outputs and gradients: torch's own where it has the form, else its ops.

The parameters are tensors in nnjit's layout (see `naive`), so autograd returns gradients in it.
"""

import naive
import torch

torch.set_num_threads(1)  # the products are small


def rnn(x, U, V, b):
    h = x.new_zeros(1, len(x), len(V))
    return torch.rnn_tanh(x, h, _weights(U, V, b, torch.zeros_like(b)), *_OPTIONS)[0]


def gru(x, U, V, b):
    """Reset before the recurrent product: torch has no such cell."""
    (Uz, Ur, Ug), (Vz, Vr, Vg), (bz, br, bg) = (m.chunk(3, dim=-1) for m in (U, V, b))
    h, states = x.new_zeros(len(x), len(V)), []
    for step in x.unbind(dim=1):
        z = torch.sigmoid(step @ Uz + h @ Vz + bz)
        r = torch.sigmoid(step @ Ur + h @ Vr + br)
        g = torch.tanh(step @ Ug + (r * h) @ Vg + bg)
        h = z * h + (1 - z) * g
        states.append(h)
    return torch.stack(states, dim=1)


def gru_reset_after(x, U, V, b, c):
    """Ours: z, r, g and a second bias of g alone; torch: r, z, g and a second bias of each."""
    U, V, b = (_reorder(m, 3, (1, 0, 2)) for m in (U, V, b))
    second = torch.cat([c.new_zeros(2 * len(c)), c])
    h = x.new_zeros(1, len(x), len(V))
    return torch.gru(x, h, _weights(U, V, b, second), *_OPTIONS)[0]


def lstm(x, U, V, b):
    """Ours: f, i, o, g; torch: i, f, g, o."""
    U, V, b = (_reorder(m, 4, (1, 0, 3, 2)) for m in (U, V, b))
    h = x.new_zeros(1, len(x), len(V))
    return torch.lstm(x, (h, h), _weights(U, V, b, torch.zeros_like(b)), *_OPTIONS)[0]


# has biases, layers, dropout, training, bidirectional, batch first
_OPTIONS = (True, 1, 0.0, False, False, True)


def _weights(U, V, b, second):
    return [U.T.contiguous(), V.T.contiguous(), b, second]


def _reorder(m, gates, order):
    parts = m.chunk(gates, dim=-1)
    return torch.cat([parts[i] for i in order], dim=-1)


def global_average_pooling(x):
    return torch.nn.functional.adaptive_avg_pool1d(x.mT, 1)[..., 0]


def global_max_pooling(x):
    return torch.nn.functional.adaptive_max_pool1d(x.mT, 1)[..., 0]


def last_step(x):
    return x[:, -1]


def conv(x, W, b, stride=1, padding="valid", rate=1, activation=lambda z: z):
    ends = naive._ends(x.shape[1], (len(W) - 1) * rate + 1, stride, padding)
    padded = torch.nn.functional.pad(x.mT, ends)
    z = torch.nn.functional.conv1d(padded, W.permute(2, 1, 0), b, stride, 0, rate)
    return activation(z.mT)


def layer_norm(x, gamma=None, beta=None, epsilon=1e-3):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def batch_norm(x, moving_mean, moving_variance, gamma=None, beta=None, epsilon=1e-3):
    """While training: the moving statistics are not seen."""
    return torch.nn.functional.batch_norm(x.mT, None, None, gamma, beta, True, 0, epsilon).mT


def dense(x, W, b, activation=lambda z: z):
    return activation(x @ W + b)


def max_pooling(x, size, stride, padding):
    ends = naive._ends(x.shape[1], size, stride, padding)
    padded = torch.nn.functional.pad(x.mT, ends, value=-torch.inf)
    return torch.nn.functional.max_pool1d(padded, size, stride).mT


def average_pooling(x, size, stride, padding):
    ends = naive._ends(x.shape[1], size, stride, padding)
    pad, pool = torch.nn.functional.pad, torch.nn.functional.avg_pool1d
    seen = pool(pad(torch.ones_like(x.mT), ends), size, stride)
    return (pool(pad(x.mT, ends), size, stride) / seen).mT


def leaves(arrays):
    """Copy a dict of arrays to tensors that collect gradients."""
    return {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
