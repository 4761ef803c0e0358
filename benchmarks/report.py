"""Results as a Markdown table and as a plot."""

from typing import Any

from matplotlib.figure import Figure

PEERS = ("torch", "jax")
NAMES = {"torch": "PyTorch", "torch_compile": "torch.compile", "jax": "JAX"}


def markdown(result: dict[str, Any]) -> str:
    """One row for each task: times, how many times faster nnjit is than each peer, and the bound.

    The last columns are the least time that the machine allows (see `bounds`), how many times as
    long nnjit takes, what bounds it most, and how many times faster than the best peer that is.
    """
    about = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    peers = [p for p in PEERS if any(p in row for row in result["rows"])]
    head = [
        "task",
        "nnjit ms",
        *(f"{NAMES[p]} ms" for p in peers),
        *(f"x {NAMES[p]}" for p in peers),
        *("bound ms", "x bound", "bound by"),
        *(["bound x best peer"] if peers else []),
    ]
    lines = [about, "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in result["rows"]:
        times = [f"{row[side]['best'] * 1e3:.3f}" for side in ("nnjit", *peers) if side in row]
        ratios = [ratio(row["speedup"][p]) for p in peers]
        lines.append(f"| {' | '.join([row['task'], *times, *ratios, *_bound(row, peers)])} |")
    return "\n".join(lines) + "\n"


def _bound(row: dict[str, Any], peers: list[str]) -> list[str]:
    if "bound" not in row:
        return [""] * (4 if peers else 3)
    least = row["bound"]["seconds"]
    found = [f"{least * 1e3:.3f}", f"{row['nnjit']['best'] / least:.2f}", row["bound"]["by"]]
    return [*found, *([ratio(min(row[p]["best"] for p in peers) / least)] if peers else [])]


def ratio(value: float) -> str:
    """Return how many times faster; below 1, which is slower, in bold and never rounded up to 1."""
    if value < 1:
        return f"**{int(value * 100) / 100:.2f}**"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def plot(result: dict[str, Any]) -> Figure:
    """Speed-up over the faster peer for each task, on a logarithmic axis."""
    rows = [row for row in result["rows"] if "speedup" in row]
    figure = Figure(figsize=(9, 1 + 0.19 * len(rows)), layout="tight")
    axis = figure.subplots()
    for i, row in enumerate(rows):
        worst = min(row["speedup"].values())
        axis.barh(i, worst, color="#4c72b0" if worst >= 2 else "#c44e52")
    axis.set_yticks(range(len(rows)), [row["task"] for row in rows], fontsize=7)
    axis.set_xscale("log")
    axis.axvline(1, color="black", linewidth=1)
    axis.axvline(2, color="0.6", linestyle=":", linewidth=1)
    axis.invert_yaxis()
    axis.margins(y=0.005)
    axis.set_xlabel("times faster than the faster of the peers")
    return figure
