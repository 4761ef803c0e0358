"""Check that a store holds one finished run with all that a run must leave there."""

import sys
from pathlib import Path

import mlflow

FIGURES = {"learning_curves.png", "confusion_matrix.png", "precision_recall.png", "clips.png"}


def main(root: Path) -> None:
    """Raise AssertionError where something is missing."""
    uri = f"sqlite:///{root / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("nnjit").experiment_id])
    assert run.info.status == "FINISHED", run.info.status
    metrics, tags = run.data.metrics, run.data.tags
    for name in ("train", "val", "test"):
        for metric in ("accuracy", "recall", "precision", "loss"):
            assert f"{name}/{metric}" in metrics, f"{name}/{metric}"
            assert f"best/{name}_{metric}" in metrics, f"best/{name}_{metric}"
        assert 0 < metrics[f"baseline/{name}_accuracy"] < 1
    assert run.data.params["model.layers.0._target_"] == "nnjit.layers.GRU"
    assert len(client.get_metric_history(run.info.run_id, "val/accuracy")) == 10
    assert {"version.numba", "cpu", "threads", "nnjit.weights_digest"} <= set(tags), tags
    assert run.inputs.dataset_inputs[0].dataset.digest == tags["nnjit.dataset_digest"]
    figures = {Path(f.path).name for f in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == FIGURES, figures
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    print(
        f"the store is complete: {len(metrics)} metrics, {len(tags)} tags, model {model.metadata}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
