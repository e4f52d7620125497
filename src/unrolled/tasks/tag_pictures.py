"""Numbers that were told beside the true ones, drawn as PNG."""

import numpy as np

from unrolled.data.tagged import Numbers
from unrolled.tasks.drawing import INK, encode, make_figure
from unrolled.tasks.tag_figures import Judged

BLUE = "#1f6fb4"
MOST = 6
"""Targets that are drawn."""


def course(judged: Judged, outputs: Numbers) -> bytes:
    """Draw the longest row: two targets as a path in the plane, others over time."""
    row = int(judged.lengths.argmax())
    steps = int(judged.lengths[row])
    truth, told = (outputs.unscaled(side[:steps, row]) for side in (judged.truth, judged.told))
    names = outputs.columns[:MOST]
    if len(outputs.columns) == 2:
        figure = make_figure((5, 5))
        panel = figure.subplots()
        for side, colour, label in ((truth, INK, "true"), (told, BLUE, "told")):
            panel.plot(side[:, 0], side[:, 1], color=colour, label=label, linewidth=1.2)
        panel.set_xlabel(names[0], color=INK)
        panel.set_ylabel(names[1], color=INK)
        panels = [panel]
    else:
        figure = make_figure((8, 1.2 + 1.4 * len(names)))
        panels = list(np.ravel(figure.subplots(len(names), 1, sharex=True)))
        for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
            panel.plot(truth[:, place], color=INK, label="true", linewidth=1.2)
            panel.plot(told[:, place], color=BLUE, label="told", linewidth=1.2)
            panel.set_ylabel(name, color=INK)
        panels[-1].set_xlabel("step", color=INK)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    return encode(figure)
