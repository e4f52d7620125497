"""What is told of a measurement: rows of a table, what was skipped, a picture."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unrolled.inspect.bench.display import milliseconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY = "#222222", "#8a8a8a"
COLOURS = {
    "torch": "#d9590b",
    "padded": "#e0a10f",
    "loop": "#1f6fb4",
    "compile": "#6b4ea0",
    "jax": "#2a8c5a",
    "numpy": "#8a8a8a",
    "onnxruntime": "#b83280",
    "torchrecurrent": "#0f9bb0",
    "plain": "#5b5b5b",
}
MANY = 100
"""Rows from which on the picture is a cloud and not a list."""

COLUMNS = (
    "workload",
    "peer",
    "peer ms",
    "ours ms",
    "ratio",
    "quartiles",
    "GFLOP/s",
    "of peak",
)


def table(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Give the rows as text, in the order of :data:`COLUMNS`."""
    for row in result["rows"]:
        alone = row["peer"] is None
        low, high = row.get("ratio_quartiles", (0, 0))
        yield (
            row["workload"],
            "" if alone else row["peer"],
            "" if alone else milliseconds(row["peer_ms"]),
            milliseconds(row["ours_ms"]),
            "" if alone else times(row["ratio"]),
            "" if alone else f"{times(low)}-{times(high)}",
            f"{row['gflops']:.3g}",
            f"{100 * row['of_peak']:.2g} %",
        )


def times(ratio: float) -> str:
    """Write a ratio: two digits after the point below 10, one below 100."""
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def machine(result: Mapping[str, Any]) -> str:
    """Describe the machine and the day in a sentence."""
    about = result["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v)
    names = {"high": "float32 as bfloat16 x 3"}
    threads = "thread" if result["threads"] == 1 else "threads"
    peaks = ", ".join(
        f"{value:.0f} GFLOP/s in {names.get(precision, precision)}"
        for precision, value in result["peaks"].items()
    )
    return (
        f"{result['date']}, {about['processor']}, {result['threads']} {threads}, "
        f"{result['seconds']:g} seconds a workload, native core for "
        f"{about['instruction_set'] or 'nothing: not installed'}; large products reach {peaks}; {versions}."
    )


def omissions(result: Mapping[str, Any]) -> Iterator[str]:
    """Say what was skipped, and where ours did not take its fastest way, a line a reason."""
    workloads: dict[str, list[str]] = {}
    for entry in result["skipped"]:
        workloads.setdefault(f"{entry['peer']} {entry['reason']}", []).append(entry["workload"])
    for workload in result["workloads"]:
        if reason := workload.get("engine_reason"):
            line = f"the {workload['engine']} engine ran ours: {reason}"
            workloads.setdefault(line, []).append(workload["name"])
    for line, names in workloads.items():
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        yield f"{line} ({shown})"


def slower(result: Mapping[str, Any]) -> list[Any]:
    """Give the rows in which a peer that does the same is faster than ours, the worst first."""
    rows = [row for row in result["rows"] if row["peer"] not in (None, "plain")]
    rows = [row for row in rows if row["ratio"] < 1]
    return sorted(rows, key=lambda row: row["ratio"])


def picture(result: Mapping[str, Any]) -> bytes:
    """Draw the ratios on a logarithmic axis, with a line at 1, as a PNG."""
    # The object interface: no global state, no window, whatever the user's matplotlib is set to.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in result["rows"] if row["peer"] is not None]
    names = list(dict.fromkeys(row["workload"] for row in rows))
    many = len(rows) > MANY and len(names) > MANY / 2
    height = 5.0 if many else 1.6 + 0.24 * len(names)
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    (_cloud if many else _list)(axes, result, rows, names)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y" if many else "x", color=GREY, alpha=0.2)
    if rows:
        figure.legend(frameon=False, loc="outside upper center", ncols=7)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _list(
    axes: "Axes", _result: Mapping[str, Any], rows: Sequence[Any], names: Sequence[str]
) -> None:
    """A line for each workload, a dot for each peer, its quartiles as a bar."""
    for peer, colour in COLOURS.items():
        mine = [row for row in rows if row["peer"] == peer]
        if mine:
            ratios = [row["ratio"] for row in mine]
            bars = [
                [
                    max(0.0, r - row["ratio_quartiles"][0])
                    for r, row in zip(ratios, mine, strict=True)
                ],
                [
                    max(0.0, row["ratio_quartiles"][1] - r)
                    for r, row in zip(ratios, mine, strict=True)
                ],
            ]
            places = [names.index(row["workload"]) for row in mine]
            axes.errorbar(
                *(ratios, places), xerr=bars, fmt="o", color=colour, markersize=5, label=peer
            )
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.set_xlabel("time of the peer / time of ours: right of 1, ours is faster", color=INK)
    _plain(axes.xaxis)


def _cloud(
    axes: "Axes", result: Mapping[str, Any], rows: Sequence[Any], _names: Sequence[str]
) -> None:
    """A dot for each point of a grid, by how much there is to compute."""
    work = {workload["name"]: workload["gflop"] for workload in result["workloads"]}
    for peer, colour in COLOURS.items():
        mine = [row for row in rows if row["peer"] == peer]
        if mine:
            sizes = [work[row["workload"]] for row in mine]
            ratios = [row["ratio"] for row in mine]
            axes.scatter(sizes, ratios, s=8, color=colour, alpha=0.6, linewidths=0, label=peer)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(1, color=INK, linewidth=1)
    axes.set_xlabel("GFLOP a call", color=INK)
    axes.set_ylabel("time of the peer / time of ours", color=INK)
    _plain(axes.yaxis)


def _plain(axis: Any) -> None:  # noqa: ANN401 - an axis of matplotlib
    """Write 0.5, 1, 2, 5, 10 rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
