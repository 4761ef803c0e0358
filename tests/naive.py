"""Every equation of the library in plain NumPy: batch first, float64, slow, and free of nnjit.

x is (N, T, D); U is (D, G H), V is (H, G H), b is (G H) for the G gates of a cell, side by side.
"""

import numpy as np


def one_hot(codes, levels):
    """(N, T) to (N, T, levels)."""
    return np.eye(levels)[codes]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# Recurrent cells: all states, (N, T, H).


def rnn(x, U, V, b):
    h, states = np.zeros((len(x), len(V))), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ U + h @ V + b)
        states.append(h)
    return np.stack(states, axis=1)


def gru(x, U, V, b):
    (Uz, Ur, Ug), (Vz, Vr, Vg), (bz, br, bg) = _gates(3, U, V, b)
    h, states = np.zeros((len(x), len(V))), []
    for t in range(x.shape[1]):
        z = sigmoid(x[:, t] @ Uz + h @ Vz + bz)
        r = sigmoid(x[:, t] @ Ur + h @ Vr + br)
        g = np.tanh(x[:, t] @ Ug + (r * h) @ Vg + bg)
        h = z * h + (1 - z) * g
        states.append(h)
    return np.stack(states, axis=1)


def gru_reset_after(x, U, V, b, c):
    (Uz, Ur, Ug), (Vz, Vr, Vg), (bz, br, bg) = _gates(3, U, V, b)
    h, states = np.zeros((len(x), len(V))), []
    for t in range(x.shape[1]):
        z = sigmoid(x[:, t] @ Uz + h @ Vz + bz)
        r = sigmoid(x[:, t] @ Ur + h @ Vr + br)
        g = np.tanh(x[:, t] @ Ug + bg + r * (h @ Vg + c))
        h = z * h + (1 - z) * g
        states.append(h)
    return np.stack(states, axis=1)


def lstm(x, U, V, b):
    (Uf, Ui, Uo, Ug), (Vf, Vi, Vo, Vg), (bf, bi, bo, bg) = _gates(4, U, V, b)
    h = c = np.zeros((len(x), len(V)))
    states = []
    for t in range(x.shape[1]):
        f = sigmoid(x[:, t] @ Uf + h @ Vf + bf)
        i = sigmoid(x[:, t] @ Ui + h @ Vi + bi)
        o = sigmoid(x[:, t] @ Uo + h @ Vo + bo)
        g = np.tanh(x[:, t] @ Ug + h @ Vg + bg)
        c = f * c + i * g
        h = o * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def _gates(n, *arrays):
    return [np.split(array, n, axis=-1) for array in arrays]


# Layers without time: x is (N, D).


def dense(x, W, b):
    return x @ W + b


def flatten(x):
    return x.reshape(len(x), -1)


def dropout(x, keep, rate):
    """``keep`` is True where a value survives."""
    return np.where(keep, x / (1 - rate), 0)


# Layers over the steps of sequences: x is (N, T, D).


def global_average_pooling(x):
    return x.mean(axis=1)


def global_max_pooling(x):
    return x.max(axis=1)


def last_step(x):
    return x[:, -1]


def conv(x, W, b, stride=1, padding="valid", rate=1, activation=lambda z: z):
    K, _, filters = W.shape
    padded = np.pad(x, ((0, 0), _ends(x.shape[1], (K - 1) * rate + 1, stride, padding), (0, 0)))
    starts = range(0, padded.shape[1] - (K - 1) * rate, stride)
    z = np.zeros((len(x), len(starts), filters))
    for t, start in enumerate(starts):
        z[:, t] = b + sum(padded[:, start + k * rate] @ W[k] for k in range(K))
    return activation(z)


def layer_norm(x, gamma=1, beta=0, epsilon=1e-3):
    off = x - x.mean(axis=-1, keepdims=True)
    return off / np.sqrt((off**2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def batch_norm(x, gamma=1, beta=0, epsilon=1e-3, moving_mean=None, moving_variance=None):
    """While training: the moving statistics are not seen."""
    off = x - x.mean(axis=(0, 1))
    return off / np.sqrt((off**2).mean(axis=(0, 1)) + epsilon) * gamma + beta


def pooling(x, size, stride, padding, f):
    """f takes the steps of a window that lie in the signal."""
    T = x.shape[1]
    before, behind = _ends(T, size, stride, padding)
    starts = range(-before, T + behind - size + 1, stride)
    return np.stack([f(x[:, max(s, 0) : s + size], axis=1) for s in starts], axis=1)


def _ends(T, span, stride, padding):
    """Return the steps of padding before and behind a signal."""
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return span - 1, 0
    missing = max((-(-T // stride) - 1) * stride + span - T, 0)
    return missing // 2, missing - missing // 2


# Activations of logits z (N, units).

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z, slope=0.01: np.where(z > 0, z, slope * z),
    "elu": lambda z, alpha=1.0: np.where(z > 0, z, alpha * (np.exp(np.minimum(z, 0)) - 1)),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softmax": lambda z, temperature=1.0: (
        np.exp(z / temperature) / np.exp(z / temperature).sum(axis=1, keepdims=True)
    ),
}


# Losses of outputs p and targets y, both (N, units): one value per member of the batch.

LOSSES = {
    "mse": lambda p, y: ((p - y) ** 2).mean(axis=1),
    "mae": lambda p, y: np.abs(p - y).mean(axis=1),
    "msle": lambda p, y: ((np.log(1 + p) - np.log(1 + y)) ** 2).mean(axis=1),
    "categorical_cross_entropy": lambda p, y: -(y * np.log(p)).sum(axis=1),
    "binary_cross_entropy": lambda p, y: -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=1),
}
