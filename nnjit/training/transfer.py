"""Going on from the weights of another model."""

from typing import Any

from ..errors import ConfigError
from ..model import Sequential


def take_over(model: Sequential, source: Sequential) -> list[str]:
    """Copy the parameters of layers that both models have; return the layers that begin anew.

    Layers are the same that have the same name, and parameters of the same names and shapes. Values
    take the dtype of ``model``.

    Raises
    ------
    ConfigError
        Where no layer is the same.
    """
    mine, theirs = _shapes(model), _shapes(source)
    same = [name for name, shapes in mine.items() if theirs.get(name) == shapes]
    if not same:
        raise ConfigError(
            f"no layer of the saved model fits: it has {_told(theirs)}, the model {_told(mine)}"
        )
    model.set_params({name: source.params[name] for name in same})
    return [name for name in mine if name not in same]


def _shapes(model: Sequential) -> dict[str, dict[str, Any]]:
    return {k: {n: w.shape for n, w in group.items()} for k, group in model.params.items()}


def _told(shapes: dict[str, dict[str, Any]]) -> str:
    return "; ".join(
        f"{layer} ({', '.join(f'{name} {list(shape)}' for name, shape in group.items())})"
        for layer, group in shapes.items()
    )
