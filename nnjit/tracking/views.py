"""Addresses of MLflow's pages, and saved views with nnjit's columns and charts.

A saved view is a tag of the experiment that MLflow's pages read: columns, filter and order of the
list of runs, and its charts. It is in the menu at the top of the list.
"""

import base64
import json
import re
import time
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..training.metrics import compared

_TAG = "mlflow.sharedViewState."
_PACKED = "deflate;"  # MLflow's mark of a compressed value; a tag holds 5000 characters
_MODE = "workflowType=machine_learning"  # else MLflow shows its pages for language models
_SETS = {"val": "Validation", "test": "Test"}
_CURVES = ("train/accuracy", "val/accuracy", "test/accuracy", "train/loss", "val/loss", "test/loss")
_TAGS = ("model", "dataset", "split", "seed")
_RUNS = 'tags.`nnjit.kind` = "run"'
RESULTS = "Results"
MOST_IN_ADDRESS = 10  # runs in an address, so that it is short enough to copy
MOST_IN_VIEW = 50  # runs that fit a tag


def run_page(server: str, experiment: str, run_id: str) -> str:
    """Return the address of a run."""
    return f"{server}/#/experiments/{experiment}/runs/{run_id}?{_MODE}"


def compare_page(server: str, experiments: Sequence[str], run_ids: Sequence[str]) -> str:
    """Return the address of MLflow's comparison of some runs."""
    runs, places = (quote(json.dumps(list(ids))) for ids in (run_ids, experiments))
    return f"{server}/#/compare-runs?runs={runs}&experiments={places}&{_MODE}"


def view_page(server: str, experiment: str, name: str, charts: bool = False) -> str:
    """Return the address of a saved view, as a table or as charts."""
    mode = "CHART" if charts else "TABLE"
    key = _key(name)
    return (
        f"{server}/#/experiments/{experiment}/runs?{_MODE}&compareRunsMode={mode}"
        f"&viewStateShareKey={key}"
    )


def view_tag(name: str, run_ids: Sequence[str] = ()) -> tuple[str, str]:
    """Return the tag of an experiment that holds a view of these runs, or of all: name, value."""
    listed = ", ".join(f"'{run_id}'" for run_id in run_ids)
    where = f"attributes.run_id IN ({listed})" if run_ids else _RUNS
    packed = base64.b64encode(zlib.compress(json.dumps(_state(where)).encode())).decode()
    now = int(time.time() * 1000)
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"{_PACKED}{packed}"}
    return _TAG + _key(name), json.dumps(view)


def _key(name: str) -> str:
    return "nnjit-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _state(where: str) -> dict[str, Any]:
    columns = [f"metrics.`{s}/{metric}`" for s in _SETS for metric in compared()]
    columns += [f"tags.`nnjit.{tag}`" for tag in _TAGS] + ["attributes.`Duration`"]
    charts = [
        {**_chart("BAR", s, f"final/{s}_{metric}"), "displayName": f"{s} {metric}, final"}
        for s in _SETS
        for metric in compared()
    ]
    charts += [
        {**_chart("LINE", "curves", key), "selectedMetricKeys": [key], "xAxisKey": "step"}
        for key in _CURVES
    ]
    return {
        "searchFilter": where,
        "orderByKey": "metrics.`val/accuracy`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {c: 104 if c.startswith("metrics") else 88 for c in columns},
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": uuid, "name": name, "display": True, "isReordered": False}
            for uuid, name in {**_SETS, "curves": "By epoch"}.items()
        ],
        "isAccordionReordered": True,
    }


def _chart(kind: str, section: str, key: str) -> dict[str, Any]:
    return {
        "uuid": f"{section} {key}",
        "type": kind,
        "metricKey": key,
        "displayName": key,
        "metricSectionId": section,
        "isGenerated": False,
        "deleted": False,
    }
