"""A computational graph as SVG, in layers from the inputs on the left to the loss on the right.

Ranks are longest paths; within a rank nodes are ordered by the mean place of their neighbours, swept to and
fro (Sugiyama, Tagawa & Toda 1981).
"""

import html
from statistics import fmean
from typing import TYPE_CHECKING

from unrolled.inspect.graph import shown

if TYPE_CHECKING:
    from unrolled.inspect.graph import Graph, Node

LETTER, LINE, PAD = 6.6, 15, 8
GAP_X, GAP_Y = 46, 16
SWEEPS = 8
STYLE = (
    "svg.graph{font:11px ui-monospace,monospace;background:#fff;color:#222}"
    ".graph rect{fill:#f4f4f6;stroke:#999}.graph .input rect{fill:#dcebfa}"
    ".graph .loss rect{fill:#fbe3d6}.graph text{fill:#222}.graph .gradient{fill:#b3261e}"
    ".graph path{fill:none;stroke:#888}"
    "@media(prefers-color-scheme:dark){svg.graph{background:#16181c;color:#ddd}"
    ".graph rect{fill:#24272e;stroke:#777}.graph .input rect{fill:#1d3550}"
    ".graph .loss rect{fill:#51311f}.graph text{fill:#ddd}.graph .gradient{fill:#ff9c8f}}"
)


def svg(graph: "Graph") -> str:
    """Draw a graph: of each node its name, its value, and below in red its gradient.

    On an edge stands the part of the gradient that comes back along it, where a value is used twice.
    """
    nodes = graph.nodes
    ranks = _ordered(nodes, _ranks(nodes))
    lines = [_lines(node) for node in nodes]
    sizes = [(2 * PAD + LETTER * max(map(len, told)), 2 * PAD + LINE * len(told)) for told in lines]
    heights = [sum(sizes[i][1] + GAP_Y for i in rank) for rank in ranks]
    x, places = float(GAP_X), {}
    for rank, height in zip(ranks, heights, strict=True):
        y = (max(heights) - height) / 2 + GAP_Y
        for i in rank:
            places[i] = x, y
            y += sizes[i][1] + GAP_Y
        x += max(sizes[i][0] for i in rank) + GAP_X
    edges, labels = [], []
    for number, node in enumerate(nodes):
        parts = {}
        for user, part in node.parts:
            parts.setdefault(user, []).append(shown(part))
        for user in dict.fromkeys(u for u, other in enumerate(nodes) if number in other.inputs):
            left, top = places[number][0] + sizes[number][0], places[number][1]
            begin = left, top + sizes[number][1] / 2
            end = places[user][0], places[user][1] + sizes[user][1] / 2
            half = (begin[0] + end[0]) / 2
            edges.append(
                f'<path d="M{begin[0]:.0f} {begin[1]:.0f}C{half:.0f} {begin[1]:.0f} '
                f'{half:.0f} {end[1]:.0f} {end[0]:.0f} {end[1]:.0f}"/>'
            )
            if len(node.parts) > 1 and user in parts:
                told = html.escape(" + ".join(parts[user]))
                labels.append(
                    f'<text class="gradient" x="{end[0] - 4:.0f}" y="{end[1] - 4:.0f}" '
                    f'text-anchor="end">{told}</text>'
                )
    boxes = [
        _box(node, lines[i], places[i], sizes[i], last=i == len(nodes) - 1)
        for i, node in enumerate(nodes)
    ]
    height = max(heights) + 2 * GAP_Y
    return (
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {x:.0f} {height:.0f}" '
        f'width="{x:.0f}" height="{height:.0f}"><style>{STYLE}</style>'
        f"{''.join(edges)}{''.join(boxes)}{''.join(labels)}</svg>"
    )


def _lines(node: "Node") -> list[str]:
    told = [node.name, shown(node.value)]
    return told if node.gradient is None else [*told, shown(node.gradient)]


def _box(
    node: "Node",
    lines: list[str],
    place: tuple[float, float],
    size: tuple[float, float],
    *,
    last: bool,
) -> str:
    (x, y), (wide, high) = place, size
    texts = "".join(
        f"<text{' class=' + chr(34) + 'gradient' + chr(34) if k == 2 else ''} "
        f'x="{x + PAD:.0f}" y="{y + PAD + LINE * (k + 0.75):.0f}">{html.escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return (
        f'<g class="{"loss" if last else node.kind}"><rect x="{x:.0f}" y="{y:.0f}" rx="4" '
        f'width="{wide:.0f}" height="{high:.0f}"/>{texts}</g>'
    )


def _ranks(nodes: list["Node"]) -> list[list[int]]:
    """Put each result right of all it is made of, and each input just left of its first use."""
    rank = [0] * len(nodes)
    for number, node in enumerate(nodes):
        rank[number] = 1 + max((rank[i] for i in node.inputs), default=-1)
    for number, node in enumerate(nodes):
        if not node.inputs:
            users = [rank[u] for u, other in enumerate(nodes) if number in other.inputs]
            rank[number] = min(users, default=1) - 1
    found: list[list[int]] = [[] for _ in range(max(rank) + 1)]
    for number, place in enumerate(rank):
        found[place].append(number)
    return found


def _ordered(nodes: list["Node"], ranks: list[list[int]]) -> list[list[int]]:
    """Order each rank by the mean place of what its nodes are joined with."""
    joined: list[list[int]] = [[*node.inputs] for node in nodes]
    for number, node in enumerate(nodes):
        for i in node.inputs:
            joined[i].append(number)
    place = {number: k / len(rank) for rank in ranks for k, number in enumerate(rank)}
    for sweep in range(SWEEPS):
        for rank in ranks if sweep % 2 == 0 else ranks[::-1]:
            means = {n: fmean(place[i] for i in joined[n]) for n in rank if joined[n]}
            rank.sort(key=lambda n, means=means: means.get(n, 0.0))
            place |= {number: (k + 0.5) / len(rank) for k, number in enumerate(rank)}
    return ranks
