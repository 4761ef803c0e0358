"""Names of earlier versions, which recorded configurations still have, and what they are now."""

from typing import Any

# Options by their place; a new place takes the value as it is.
OPTIONS = {"trainer.patience": "callbacks.early_stopping.patience"}


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the names of today."""
    config = {k: dict(v) if isinstance(v, dict) else v for k, v in config.items()}
    trainer = config["trainer"]
    if "patience" in trainer:
        stopping = {"_target_": "nnjit.EarlyStopping", "patience": trainer.pop("patience")}
        config["callbacks"] = {**(config.get("callbacks") or {}), "early_stopping": stopping}
    return config
