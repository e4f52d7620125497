"""The flow of gradients drawn, and on a page."""

from collections.abc import Mapping, Sequence

import numpy as np

from unrolled.inspect.flow_report import Flow, LayerFlow
from unrolled.inspect.page import Page
from unrolled.tasks.drawing import INK, encode, make_figure

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def page_of(flow: Flow) -> Page:
    """Lay what was found out as a page."""
    page = Page(f"Gradients of {flow.model} through time")
    page.text(*(f"{layer.name}: {layer.verdict}" for layer in flow.layers))
    if flow.clipped is not None:
        page.text(f"Gradients were clipped in {flow.clipped:.0%} of the noted updates.")
    if flow.advice:
        page.heading("To try")
        page.text(*flow.advice)
    page.text(*flow.notes)
    page.heading("How far a gradient reaches")
    curves = {layer.name: layer.falls for layer in flow.layers}
    page.picture("lags.png", "What is left of dE_t/dh after n steps back", falling(curves))
    page.picture("steps.png", "||dE/dh_k|| by layer and step", _totals(flow.layers))
    for number, layer in enumerate(flow.layers):
        page.heading(layer.name)
        page.picture(f"pairs-{number}.png", "||dE_t/dh_k|| for all pairs", heat(layer))
        if layer.singular:
            png = _products(layer)
            page.picture(f"jacobians-{number}.png", "Products of Jacobians dh_t/dh_{t-1}", png)
        if layer.half_life or layer.gates:
            page.picture(f"units-{number}.png", "Gates and memory by unit", _units(layer))
        if layer.matrices:
            names = ["radius", "largest", "smallest"]
            names += [f"{name}_before" for name in names]
            rows = [
                (name, *(f"{m[n]:.4g}" if n in m else "" for n in names))
                for name, m in layer.matrices.items()
            ]
            page.table(("recurrent matrix", *(n.replace("_", " ") for n in names)), rows)
    page.heading("In words")
    page.printed(str(flow))
    return page


def falling(curves: Mapping[str, Sequence[float]]) -> bytes:
    """Draw what is left of gradients after 0, 1, 2, ... steps, one curve each."""
    figure = make_figure((8, 4))
    panel = figure.subplots()
    for number, (name, values) in enumerate(curves.items()):
        shown = np.asarray(values, float)
        shown = np.where(shown > 0, shown, np.nan)
        panel.plot(shown, label=name, color=_COLOURS[number % len(_COLOURS)])
    panel.axhline(1, color=INK, linewidth=0.6, linestyle=":")
    panel.set_yscale("log")
    panel.set_xlabel("steps back")
    panel.set_ylabel("share of the gradient")
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    return encode(figure)


def heat(layer: LayerFlow) -> bytes:
    """Draw the norms for all pairs (t, k), by their logarithm."""
    figure = make_figure((7, 5))
    panel = figure.subplots()
    with np.errstate(divide="ignore"):
        shown = np.log10(layer.norms)
    shown[~np.isfinite(shown)] = np.nan
    image = panel.imshow(shown, aspect="auto", cmap="viridis", interpolation="nearest")
    figure.colorbar(image, label="log10 of the norm")
    steps = layer.norms.shape[1] - 1
    every = max(1, len(layer.times) // 10)
    labels = ["end" if t == steps else str(t + 1) for t in layer.times]
    panel.set_yticks(range(0, len(labels), every), labels[::every])
    panel.set_xlabel("k: after so many steps of reading")
    panel.set_ylabel("t: the step whose error it is")
    return encode(figure)


def _totals(layers: Sequence[LayerFlow]) -> bytes:
    figure = make_figure((8, 0.5 * len(layers) + 1.6))
    panel = figure.subplots()
    longest = max(len(layer.totals) for layer in layers)
    shown = np.full((len(layers), longest), np.nan)
    for row, layer in zip(shown, layers, strict=True):
        with np.errstate(divide="ignore"):
            row[: len(layer.totals)] = np.log10(layer.totals)
    shown[~np.isfinite(shown)] = np.nan
    image = panel.imshow(shown, aspect="auto", cmap="viridis", interpolation="nearest")
    figure.colorbar(image, label="log10")
    panel.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8)
    panel.set_xlabel("k: after so many steps of reading")
    return encode(figure)


def _products(layer: LayerFlow) -> bytes:
    return _lines(
        {"largest singular value": layer.singular, "bound": layer.bound}, "steps multiplied"
    )


def _lines(curves: Mapping[str, Sequence[float]], across: str) -> bytes:
    figure = make_figure((7, 3.4))
    panel = figure.subplots()
    for number, (name, values) in enumerate(curves.items()):
        panel.plot(range(1, len(values) + 1), values, label=name, color=_COLOURS[number])
    panel.set_yscale("log")
    panel.set_xlabel(across)
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    return encode(figure)


def _units(layer: LayerFlow) -> bytes:
    """Each gate's saturation by unit, as Karpathy, Johnson & Li 2015 draw it, and half-lives."""
    panels = len(layer.gates) + bool(layer.half_life)
    figure = make_figure((3.2 * panels, 3.4))
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel, (name, gate) in zip(axes, layer.gates.items(), strict=False):
        panel.scatter(gate["right"], gate["left"], s=8, color=_COLOURS[0], alpha=0.6)
        panel.plot([0, 1], [1, 0], color=INK, linewidth=0.5)
        panel.set_title(f"gate {name}", fontsize=9)
        panel.set_xlabel("share above 0.9")
        panel.set_ylabel("share below 0.1")
    if layer.half_life:
        axes[-1].plot(sorted(layer.half_life), color=_COLOURS[1])
        axes[-1].set_yscale("log")
        axes[-1].set_title("memory half-life", fontsize=9)
        axes[-1].set_xlabel("units, sorted")
        axes[-1].set_ylabel("steps")
    return encode(figure)
