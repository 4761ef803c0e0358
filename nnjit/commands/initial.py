"""``init_from=``: the saved model whose weights a run begins with."""

from pathlib import Path

from omegaconf import DictConfig

from ..classifier import Classifier
from ..errors import ConfigError
from ..model import Sequential
from ..runtime.places import given_path
from ..training.run import MODEL_FILE


def initial_model(cfg: DictConfig, store: str | None = None) -> Sequential | None:
    """Return the model that ``init_from`` names, None where it names none.

    It becomes the whole path or id, so that it means the same anywhere and later.

    Parameters
    ----------
    store
        Address of the store that has the run; None is that of ``cfg.tracking``.

    Raises
    ------
    ConfigError, TrackingError, ModelFileError
        Where there is no such file or run, or it holds no model.
    """
    if cfg.get("init_from") is None:
        return None
    wanted = str(cfg.init_from)
    path = given_path(wanted)
    if path.exists():
        path = path / MODEL_FILE if path.is_dir() else path
        cfg.init_from = str(path.absolute())
        return Classifier.load(path).model
    if not wanted.isalnum():
        raise ConfigError(
            f"init_from={wanted} does not exist: give a model file, or the id of a run"
        )
    from ..tracking.address import store_uri
    from ..tracking.store import Store

    tracking = cfg.tracking
    recorded = Store.existing(
        store or tracking.get("uri") or store_uri(Path(tracking.get("root") or "runs"))
    )
    cfg.init_from = recorded.run(wanted).id
    return Classifier.load(recorded.model_file(cfg.init_from)).model
