"""Sequential: layers one after the other, from codes or signals to class probabilities."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .activations import Activation
from .errors import ConfigError, ShapeError, short
from .kernels._lanes import LANES
from .kernels.batch import gather
from .layers import LAYERS, Codes, Dense, Layer, Parameter, Signal
from .options import check_options, expect
from .parts import Part
from .runtime import memory
from .runtime.threads import check_wanted

Array = NDArray[Any]
_DTYPES = ("float32", "float64")
_BATCH = 256  # clips at once outside training: bounds the memory
_MOST_IN_A_CALL = 1 << 26  # values that one call of a kernel gathers


def untile(x: Array, n: int) -> Array:
    """Turn (tiles, units, LANES) into (n, units), a copy."""
    return np.ascontiguousarray(x.transpose(0, 2, 1).reshape(-1, x.shape[1])[:n])


def tile(x: Array) -> Array:
    """Turn (n, units) into (tiles, units, LANES), with zeros in the lanes beyond n."""
    tiles = -(-len(x) // LANES)
    padded = np.zeros((tiles * LANES, x.shape[1]), x.dtype)
    padded[: len(x)] = x
    return np.ascontiguousarray(padded.reshape(tiles, LANES, -1).transpose(0, 2, 1))


def _gather(tiles: Array, data: Array, rows: Array) -> None:
    """Do what `gather` does, some tiles at a time where they are large: signals wait for it."""
    most = max(1, _MOST_IN_A_CALL // tiles[0].size)
    if len(tiles) <= most:
        gather(tiles, data, rows)
        return
    rows = np.concatenate([rows, np.full(len(tiles) * LANES - len(rows), rows[0])])
    for i in range(0, len(tiles), most):
        check_wanted()
        gather(tiles[i : i + most], data, rows[i * LANES : (i + most) * LANES])


@final
class Sequential(Part):
    """A stack of layers, the last one Dense.

    Parameters
    ----------
    layers
        The layers, in order. Each gets a name: its class in lower case, with a number from the
        second of its kind on.
    dtype
        "float32" or "float64", of parameters and results.
    """

    def __init__(self, layers: Sequence[Layer], dtype: str = "float32") -> None:
        if not layers or not isinstance(layers[-1], Dense):
            raise ConfigError("the last layer of a model must be Dense: it gives the class scores")
        if len(set(layers)) < len(layers):
            raise ConfigError("a layer stands twice in the model: make one for each place")
        if dtype not in _DTYPES:
            raise ConfigError(
                f"model.dtype={dtype} does not exist: choose from {', '.join(_DTYPES)}"
            )
        self.layers = list(layers)
        self.dtype = dtype
        self.inputs: Codes | Signal | None = None
        counts: dict[str, int] = {}
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            layer.name = kind if counts[kind] == 1 else f"{kind}_{counts[kind]}"

    @property
    def head(self) -> Dense:
        """The last layer."""
        head = self.layers[-1]
        assert isinstance(head, Dense)
        return head

    @property
    def activation(self) -> Activation:
        """The activation of the last layer."""
        return self.head.activation

    @property
    def params(self) -> dict[str, dict[str, Array]]:
        """The parameters by layer and name: the arrays themselves, not copies."""
        return {layer.name: layer.params for layer in self.layers if layer.params}

    def copy_params(self) -> dict[str, dict[str, Array]]:
        """Return a copy of `params`."""
        return {k: {n: w.copy() for n, w in group.items()} for k, group in self.params.items()}

    def set_params(self, params: dict[str, dict[str, Array]]) -> None:
        """Copy values of the same names and shapes into `params`."""
        for name, group in params.items():
            for key, value in group.items():
                if self.params[name][key].shape != value.shape:
                    shape = self.params[name][key].shape
                    raise ShapeError(f"{name}.{key} is {shape}, got {value.shape}")
                self.params[name][key][...] = value

    def build(
        self, inputs: Codes | Signal, seed: int | np.random.Generator | None = 0
    ) -> "Sequential":
        """Draw all parameters for such inputs; ``seed`` may be a generator. Returns the model.

        Raises
        ------
        ShapeError
            Where a layer cannot follow the one before it.
        ConfigError
            Where the parameters need more memory than there is.
        """
        rng = np.random.default_rng(seed)
        connected = self._connected(inputs)
        _check_memory(connected)
        for layer, declared in connected:
            layer.params = {name: p.draw(rng, np.dtype(self.dtype)) for name, p in declared.items()}
        return self

    def _connected(self, inputs: Codes | Signal) -> list[tuple[Layer, dict[str, Parameter]]]:
        """Make the layers ready for such inputs; return each with what it trains."""
        self.inputs = inputs
        self.shapes: list[str] = []
        found = []
        spec: Any = inputs
        for layer in self.layers:
            layer.is_first = layer is self.layers[0]
            outputs = layer.connect(spec)
            found.append((layer, layer.parameters(spec)))
            self.shapes.append(str(outputs))
            spec = outputs
        return found

    def forward(
        self, x: Array, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, list[Any]]:
        """Return the logits, (N, units), and the caches that `backward` takes.

        Parameters
        ----------
        x
            Codes (N, T), integers below V, or signals (N, T, D).
        training, rng
            Random layers are on while training, and draw from ``rng``.
        """
        return self.forward_rows(self.check(x), np.arange(len(x)), training=training, rng=rng)

    def forward_rows(
        self,
        data: Array,
        rows: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, list[Any]]:
        """Return `forward` of ``data[rows]`` without a copy of it; ``data`` is from `check`."""
        check_wanted()
        tiles = np.empty((-(-len(rows) // LANES), data[0].size, LANES), data.dtype)
        _gather(tiles, data.reshape(len(data), -1), rows)
        x = tiles.reshape(len(tiles), *data.shape[1:], LANES)
        caches: list[Any] = []
        for layer in self.layers[:-1]:
            x, cache = layer.forward(x, training=training, rng=rng)
            caches.append(cache)
        return untile(self.head.linear(x), len(rows)), [*caches, x]

    def backward(self, dz: Array, caches: list[Any]) -> dict[str, dict[str, Any]]:
        """Return the gradients by layer and name from that of the logits, (N, units).

        The caches serve one backward.
        """
        dx, grads = self.head.linear_backward(tile(dz), caches[-1])
        found = {self.head.name: grads}
        for layer, cache in zip(self.layers[-2::-1], caches[-2::-1], strict=True):
            if dx is None:
                break  # codes have no gradient, and nothing that has parameters lies before them
            dx, grads = layer.backward(dx, cache)
            if grads:
                found[layer.name] = grads
        return found

    def predict_proba(self, x: Array) -> Array:
        """Return the outputs, (N, units): probabilities for softmax and sigmoid."""
        return np.ascontiguousarray(self.activation.forward(self.logits(self.check(x)).T).T)

    def logits(self, data: Array) -> Array:
        """Return the logits, (N, units), a few clips at a time; ``data`` is from `check`."""
        batches = [
            self.forward_rows(data, np.arange(n, min(n + _BATCH, len(data))))[0]
            for n in range(0, len(data), _BATCH)
        ]
        return np.concatenate(batches)

    def predict(self, x: Array) -> NDArray[np.int64]:
        """Return the class of each clip, (N,): the likelier one."""
        return self.decide(self.predict_proba(x))

    @staticmethod
    def decide(p: Array) -> NDArray[np.int64]:
        """Return classes (N,) from outputs (N, units); a single unit is the probability of 1."""
        return (p[:, 0] > 0.5).astype(np.int64) if p.shape[1] == 1 else p.argmax(axis=1)

    def check(self, x: Array) -> Array:
        """Return ``x`` in the form that the kernels read, or raise ShapeError.

        Kernels do not check their bounds, so everything that enters a model comes through here.
        """
        if self.inputs is None:
            raise ConfigError(
                "the model is not built: call model.build(...) or trainer.fit(...) first"
            )
        x = np.asarray(x)
        if isinstance(self.inputs, Signal):
            T, D = self.inputs.n_steps, self.inputs.n_features
            if x.shape[1:] != (T, D) or len(x) == 0 or x.dtype.kind not in "fiu":
                raise ShapeError(
                    f"the model expected signals (N, {T}, {D}), got {x.dtype} {x.shape}"
                )
            return np.ascontiguousarray(x, self.dtype)
        T, V = self.inputs.n_steps, self.inputs.levels
        if x.ndim != 2 or x.shape[1] != T or len(x) == 0 or not np.issubdtype(x.dtype, np.integer):
            raise ShapeError(f"the model expected integer codes (N, {T}), got {x.dtype} {x.shape}")
        if x.min() < 0 or x.max() >= V:
            raise ShapeError(
                f"the model knows codes 0 to {V - 1}, got {x.min()} to {x.max()}: "
                f"encode the recordings with levels={V}"
            )
        return np.ascontiguousarray(x, np.uint8)

    def n_params(self) -> int:
        """Return the number of trained values."""
        return sum(layer.n_params() for layer in self.layers)

    def summary(self) -> str:
        """Return a table: each layer, the shape of its outputs, its number of parameters."""
        if self.inputs is None:
            raise ConfigError(
                "the model is not built: call model.build(...) or trainer.fit(...) first"
            )
        rows = [("input", str(self.inputs), "")]
        for layer, shape in zip(self.layers, self.shapes, strict=True):
            rows.append((layer.name, shape, f"{layer.n_params():,}"))
        rows.append(("total", self.dtype, f"{self.n_params():,}"))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def config(self) -> dict[str, Any]:
        """Return the architecture in plain values; `from_config` makes the model again."""
        if self.inputs is None:
            raise ConfigError("the model is not built: it has no shapes to save yet")
        inputs = {"kind": type(self.inputs).__name__, **vars(self.inputs)}
        return {
            "layers": [layer.config() for layer in self.layers],
            "dtype": self.dtype,
            "inputs": inputs,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], params: Mapping[str, Mapping[str, Array]] | None = None
    ) -> "Sequential":
        """Return a built model from `config`.

        Parameters
        ----------
        config
            From a file perhaps: types and ranges are checked before anything is made of it, and
            shapes before anything is allocated.
        params
            The parameters by layer and name, which the model takes over; None draws them anew.

        Raises
        ------
        ConfigError, ShapeError
            Where ``config`` describes no model, or ``params`` are not of this one.
        """
        expect("the architecture", config, layers=list, dtype=str, inputs=dict)
        layers = [_layer(f"layer {i}", options) for i, options in enumerate(config["layers"])]
        model, inputs = cls(layers, config["dtype"]), _inputs(config["inputs"])
        if params is None:
            return model.build(inputs)
        connected = model._connected(inputs)
        expected = {layer.name: declared for layer, declared in connected if declared}
        if {k: sorted(g) for k, g in params.items()} != {k: sorted(g) for k, g in expected.items()}:
            raise ShapeError(f"its weights are not those of the layers {', '.join(expected)}")
        for layer, declared in connected:
            layer.params = {name: params[layer.name][name] for name in declared}
            for name, p in declared.items():
                value = layer.params[name]
                if value.shape != p.shape or value.dtype != model.dtype:
                    raise ShapeError(
                        f"{layer.name}.{name} is {value.dtype} {list(value.shape)}, "
                        f"the architecture needs {model.dtype} {list(p.shape)}"
                    )
        return model


def _layer(place: str, config: Any) -> Layer:
    if not isinstance(config, dict):
        raise ConfigError(f"{place} is {short(config)}: a layer is a dict of its options")
    options = dict(config)
    kind = options.pop("layer", None)
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ConfigError(f"{place} is {short(kind)}: choose from {', '.join(LAYERS)}")
    check_options(place, LAYERS[kind], options)
    return LAYERS[kind].recorded(options)


def _inputs(config: dict[str, Any]) -> Codes | Signal:
    options = dict(config)
    kinds: dict[Any, type[Codes] | type[Signal]] = {"Codes": Codes, "Signal": Signal}
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"inputs of the kind {short(kind)}: choose from {', '.join(kinds)}")
    check_options("inputs", kinds[kind], options)
    return kinds[kind](**options)


def _check_memory(connected: Sequence[tuple[Layer, dict[str, Parameter]]]) -> None:
    """Refuse parameters that need more memory than there is, before any of them is drawn."""
    size = {  # drawn in float64, by initialisers that need as much again
        f"{type(layer).__name__} {name} {p.shape}": 16 * math.prod(p.shape)
        for layer, declared in connected
        for name, p in declared.items()
    }
    most = memory.total()
    if most is not None and sum(size.values()) > most:
        largest = max(size, key=lambda name: size[name])
        raise ConfigError(
            f"the parameters need {sum(size.values()) / 1e9:,.0f} GB of memory, there are "
            f"{most / 1e9:,.0f}: the largest is {largest}, lower hidden_size or units"
        )
