"""Sequential: a stack of layers, from codes or signals to class probabilities."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .activations import Activation
from .errors import ConfigError, ShapeError, short
from .layers import LAYERS, Codes, Dense, Layer, Parameter, Recurrent, Signal
from .layers.tiles import gathered, tile, tile_states, untile
from .lazy import LazyClips
from .options import check_options, expect
from .parts import Part
from .ragged import AnyData, Ragged
from .runtime import memory

Array = NDArray[Any]
State = dict[str, dict[str, Array]]  # of recurrent layers, by layer and state
_DTYPES = ("float32", "float64")
_BATCH = 256  # clips in a batch outside training, which limits the memory
_MOST = 1 << 25  # values in a batch of clips of any length


@final
class Sequential(Part):
    """A stack of layers, the last one Dense.

    Parameters
    ----------
    layers
        The layers, in order. The name of each is its class in lower case, with a number from the
        second of the class on: gru, gru_2.
    dtype
        "float32" or "float64", for parameters and results.
    """

    def __init__(self, layers: Sequence[Layer], dtype: str = "float32") -> None:
        if not layers or not isinstance(layers[-1], Dense):
            raise ConfigError("the last layer of a model must be Dense: it gives the class scores")
        if len(set(layers)) < len(layers):
            raise ConfigError("the model has the same layer twice: make one for each position")
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

    def with_params(self, params: Mapping[str, Mapping[str, Array]]) -> "Sequential":
        """Return a model that shares these parameters, and with this one all that is not in them.

        ``params`` are by layer and name, of the shapes of `Sequential.params`.
        """
        model = copy.copy(self)
        model.layers = [copy.copy(layer) for layer in self.layers]
        for layer in model.layers:
            layer.params = {**layer.params, **params.get(layer.name, {})}
        return model

    def build(
        self, inputs: Codes | Signal, seed: int | np.random.Generator | None = 0
    ) -> "Sequential":
        """Draw all parameters for inputs of this kind, and return the model.

        Raises
        ------
        ShapeError
            If a layer cannot follow the one before it.
        ConfigError
            If the parameters need more memory than there is.
        """
        rng = np.random.default_rng(seed)
        connected = self._connected(inputs)
        _check_memory(connected)
        for layer, declared in connected:
            layer.params = {name: p.draw(rng, np.dtype(self.dtype)) for name, p in declared.items()}
        return self

    def _connected(self, inputs: Codes | Signal) -> list[tuple[Layer, dict[str, Parameter]]]:
        """Connect the layers for inputs of this kind; return each with its parameters."""
        self.inputs = inputs
        self.shapes: list[str] = []
        connected = []
        spec: Any = inputs
        for layer in self.layers:
            layer.is_first = layer is self.layers[0]
            if layer is self.layers[-1] and isinstance(spec, Signal):
                raise ShapeError(
                    f"{layer.name} gives the class scores of a clip, and expected (N, D), got "
                    f"{spec}: put Flatten or GlobalAveragePooling1D before it, or set "
                    "return_sequences=false in the layer before"
                )
            outputs = layer.connect(spec)
            connected.append((layer, layer.parameters(spec)))
            self.shapes.append(str(outputs))
            spec = outputs
        return connected

    def forward(
        self, x: Any, *, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, list[Any]]:
        """Return the logits, (N, units), and the caches for `backward`.

        Parameters
        ----------
        x
            Codes (N, T), integers below V, or signals (N, T, D). A model that is built with
            ``n_steps=None`` also takes a `Ragged`, or a list of clips of different lengths.
        training, rng
            With ``training``, random layers are active and draw from ``rng``.
        """
        data = self.check(x)
        return self.forward_rows(data, np.arange(len(data)), training=training, rng=rng)

    def forward_rows(
        self,
        data: AnyData,
        rows: Array,
        *,
        training: bool = False,
        rng: np.random.Generator | None = None,
        outputs: dict[str, Array] | None = None,
    ) -> tuple[Array, list[Any]]:
        """Return `forward` of ``data[rows]`` without copying it; ``data`` is from `check`.

        ``outputs`` receives the outputs of each layer, in tiles.
        """
        lengths = None
        if isinstance(data, Ragged):
            x, lengths = data.gathered(rows)
        elif isinstance(data, LazyClips):
            x = gathered(data[rows], np.arange(len(rows)))
        else:
            x = gathered(data, rows)
        caches: list[Any] = []
        for layer in self.layers[:-1]:
            told: dict[str, Any] = {"lengths": lengths, "n_clips": len(rows)}
            options = {name: told[name] for name in layer.takes}
            x, cache = layer.forward(x, training=training, rng=rng, **options)
            lengths = None if lengths is None else layer.lengths_after(lengths)
            caches.append(cache)
            if outputs is not None:
                outputs[layer.name] = x
        return untile(self.head.linear(x), len(rows)), [*caches, x]

    def backward(self, dz: Array, caches: list[Any]) -> dict[str, dict[str, Any]]:
        """Return the gradients by layer and name, given that of the logits, (N, units).

        The caches can be used for one call only.
        """
        dx, grads = self.head.linear_backward(tile(dz), caches[-1])
        gradients = {self.head.name: grads}
        for layer, cache in zip(self.layers[-2::-1], caches[-2::-1], strict=True):
            if dx is None:
                break  # codes have no gradient, and no layer before them has parameters
            dx, grads = layer.backward(dx, cache)
            if grads:
                gradients[layer.name] = grads
        return gradients

    def predict_proba(self, x: Any) -> Array:
        """Return the outputs, (N, units): probabilities for softmax and sigmoid.

        ``x`` is as in `forward`.
        """
        return np.ascontiguousarray(self.activation.forward(self.logits(self.check(x)).T).T)

    def logits(self, data: AnyData) -> Array:
        """Return the logits, (N, units), a few clips at a time; ``data`` is from `check`."""
        if isinstance(data, Ragged):
            batches = list(data.by_length(_BATCH, _MOST))
            logits = np.concatenate([self.forward_rows(data, rows)[0] for rows in batches])
            return logits[np.argsort(np.concatenate(batches))]
        order = np.arange(len(data))
        return np.concatenate(
            [self.forward_rows(data, order[n : n + _BATCH])[0] for n in range(0, len(data), _BATCH)]
        )

    def stream(self, x: Array, state: State | None = None) -> tuple[Array, State]:
        """Return the outputs, (N, units), after a piece of N streams, and the state after it.

        A stream that is run in pieces, each with the state from the piece before, gives the same
        bits as the stream at once.

        Parameters
        ----------
        x
            Codes (N, T) or signals (N, T, D), with any number of steps T.
        state
            For each recurrent layer by name, its states by name, (N, H). None begins a stream.

        Raises
        ------
        ShapeError
            If a layer needs all steps at once, or ``state`` is not from this model.
        """
        for layer in self.layers:
            if layer.needs_all_steps:
                raise ShapeError(
                    f"{layer.name} needs all steps at once, and a stream has no end: take it out, "
                    "and set return_sequences=false in the recurrent layer before it"
                )
        x, before = np.asarray(self._check(x, None)), dict(state or {})
        values, N = gathered(x, np.arange(len(x))), len(x)
        after: State = {}
        for layer in self.layers[:-1]:
            if not isinstance(layer, Recurrent):
                values, _ = layer.forward(values)
                continue
            first = tile_states(before.pop(layer.name, {}), (N, layer.hidden_size), layer.name)
            values, end, _ = layer.scan(values, first)
            after[layer.name] = {k: untile(v, N) for k, v in end.items()}
        if before:
            raise ShapeError(f"{short(next(iter(before)))} is no recurrent layer of this model")
        logits = untile(self.head.linear(values), N)
        return np.ascontiguousarray(self.activation.forward(logits.T).T), after

    def predict(self, x: Any) -> NDArray[np.int64]:
        """Return the most probable class of each clip, (N,); ``x`` is as in `forward`."""
        return self.most_probable(self.predict_proba(x))

    @staticmethod
    def most_probable(p: Array) -> NDArray[np.int64]:
        """Return classes (N,) from outputs (N, units); one unit is the probability of class 1."""
        return (p[:, 0] > 0.5).astype(np.int64) if p.shape[1] == 1 else p.argmax(axis=1)

    def check(self, x: Any) -> AnyData:
        """Return ``x`` in the form for kernels, or raise ShapeError.

        Kernels do not check bounds, so all inputs of a model must be checked here.
        """
        if self.inputs is not None and self.inputs.n_steps is None:
            if isinstance(x, Ragged | list | tuple):
                clips = x if isinstance(x, Ragged) else Ragged.of(x)
                return Ragged(self._check(clips.values[None], None)[0], clips.lengths)
        elif isinstance(x, Ragged):
            raise ShapeError(
                "the model takes clips of one length: build it for any, with n_steps=None"
            )
        return self._check(x, self.inputs and self.inputs.n_steps)

    def _check(self, x: Any, n_steps: int | None) -> Array | LazyClips:
        """Return an array as `check` does; ``n_steps`` None allows any number of steps."""
        if self.inputs is None:
            raise ConfigError(
                "the model is not built: call model.build(...) or trainer.fit(...) first"
            )
        x, T = x if isinstance(x, LazyClips) else np.asarray(x), n_steps or "T"
        fits = x.ndim > 1 and x.size > 0 and n_steps in (None, x.shape[1])
        if isinstance(self.inputs, Signal):
            D = self.inputs.n_features
            if x.ndim != 3 or not fits or x.shape[2] != D or x.dtype.kind not in "fiu":
                raise ShapeError(
                    f"the model expected signals (N, {T}, {D}), got {x.dtype} {x.shape}"
                )
            return _contiguous(x, self.dtype)
        V = self.inputs.levels
        if x.ndim != 2 or not fits or not np.issubdtype(x.dtype, np.integer):
            raise ShapeError(f"the model expected integer codes (N, {T}), got {x.dtype} {x.shape}")
        low, high = _extremes(x)
        if low < 0 or high >= V:
            raise ShapeError(
                f"the model knows codes 0 to {V - 1}, got {low} to {high}: "
                f"encode the recordings with levels={V}"
            )
        return _contiguous(x, np.uint8)

    def n_params(self) -> int:
        """Return the number of trained values."""
        return sum(layer.n_params() for layer in self.layers)

    def summary(self) -> str:
        """Return a table with each layer, the shape of its outputs and its number of parameters."""
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
        """Return the architecture in plain values, for `from_config`."""
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
            May come from an untrusted file: types and ranges are checked before a layer is made,
            and shapes before memory is allocated.
        params
            The parameters by layer and name, which are used without a copy; None draws new ones.

        Raises
        ------
        ConfigError, ShapeError
            If ``config`` describes no model, or ``params`` do not fit it.
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


def _contiguous(x: Array | LazyClips, dtype: Any) -> Array | LazyClips:
    return x.astype(dtype) if isinstance(x, LazyClips) else np.ascontiguousarray(x, dtype)


def _extremes(codes: Array | LazyClips) -> tuple[int, int]:
    chunks = codes.chunks(any_order=True) if isinstance(codes, LazyClips) else (codes,)
    spans = [(int(chunk.min()), int(chunk.max())) for chunk in chunks]
    return min(low for low, _ in spans), max(high for _, high in spans)


def _layer(place: str, config: Any) -> Layer:
    if not isinstance(config, dict):
        raise ConfigError(f"{place} is {short(config)}: a layer is a dict of its options")
    options = dict(config)
    kind = options.pop("layer", None)
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ConfigError(f"{place} is {short(kind)}: choose from {', '.join(LAYERS)}")
    if "of" in options and kind == "Bidirectional":
        of = options.pop("of")
        if isinstance(of, dict) and "of" in of:
            raise ConfigError(f"{place} wraps a layer that wraps another one")
        options["layer"] = _layer(f"{place}.of", of)
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
    """Raise ConfigError, before parameters are drawn, if they need more memory than there is."""
    size = {  # in float64, twice: initialisers make a copy
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
