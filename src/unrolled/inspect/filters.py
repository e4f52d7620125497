"""A model that looks at pictures, seen from inside: filters, maps, what excites them, which are of no use."""

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.checkpoint import files
from unrolled.errors import InputError
from unrolled.inspect.mosaic import Part, matrix, scaled, sheet
from unrolled.inspect.units import (
    Units,
    Watched,
    evaluating,
    listening,
    study,
    watched_layers,
)
from unrolled.inspect.visualise import ascend, deconvolve, occlude

PAGE = "filters.html"
COLUMNS = 8
SHOWN = 256
"""Most first-layer filters that are drawn: the largest."""
STRONGEST = COLUMNS // 2
"""Pictures that excite a unit most, shown beside what in them does."""


@dataclass(frozen=True)
class Filters:
    """What was found.

    Attributes:
        pictures: How many pictures were looked at.
        layers: Of each layer with weights, what its units did.
        files: What was written: the page, and the PNG files it also holds.
    """

    pictures: int
    layers: tuple[Units, ...]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything but the tables as plain values, for JSON."""
        return {
            "pictures": self.pictures,
            "layers": [units.to_dict() for units in self.layers],
            "files": [str(path) for path in self.files],
        }

    def __str__(self) -> str:
        """Tell of each layer which units are dead, saturated or duplicates."""
        return "\n".join(_sentence(units) for units in self.layers)


def filters(
    model: nn.Module,
    pictures: Tensor,
    out: str | Path,
    *,
    units: int = COLUMNS,
    seed: int = 0,
) -> Filters:
    """Look inside a model, and write what is seen as PNG files and as one page that needs no other file.

    First-layer filters; and for each layer: activation maps; the pictures that excite a unit most, with
    what in them does (:func:`~unrolled.inspect.visualise.deconvolve`); pictures climbed to
    (:func:`~unrolled.inspect.visualise.ascend`); occlusion maps
    (:func:`~unrolled.inspect.visualise.occlude`); the correlation of units, with dead, saturated and
    duplicate ones named (:func:`~unrolled.inspect.units.study`).

    Args:
        model: Takes pictures (B, C, H, W) whose numbers lie between 0 and 1.
        pictures: (n, C, H, W), what it is looked at with.
        out: Directory to write to; it is made if it is not there.
        units: How many units of each layer are drawn: those that vary most.
        seed: Of the noise from which pictures are climbed to.

    Returns:
        What the units did, and the files.

    Raises:
        InputError: If there are no pictures, the model does not take them, or it has no layer of units.
        RunError: If the files cannot be written.
    """
    if pictures.dim() != 4 or not len(pictures):
        raise InputError(
            f"pictures must be (n, C, H, W), at least one, not {tuple(pictures.shape)}"
        )
    if units < 1:
        raise InputError(f"units must be at least 1, not {units}")
    try:
        layers = watched_layers(model, pictures[:1])
    except (RuntimeError, IndexError, TypeError) as error:
        size = tuple(pictures.shape[1:])
        raise InputError(
            f"{type(model).__name__} does not take pictures of {size}: {error}"
        ) from error
    found = study(model, pictures, layers)
    drawn: dict[str, tuple[str, bytes]] = {}
    if (bank := first_filters(layers[0], pictures.shape[1:])) is not None:  # pyright: ignore[reportArgumentType]
        largest = np.sort(np.argsort(-np.square(bank).sum((1, 2, 3)), kind="stable")[:SHOWN])
        part = Part(f"filters of {layers[0].name}", scaled(bank[largest], signed=True))
        drawn["first-filters.png"] = ("First-layer filters", sheet([part], 2 * COLUMNS))
    for number, each in enumerate(found, 1):
        for name, title, content in _drawings(model, pictures, each, units, seed):
            drawn[f"{number:02}-{name}.png"] = (f"{each.layer.name}: {title}", content)
    home = Path(out)
    files.folder(home)
    for name, (_, content) in drawn.items():
        files.write(home / name, content, durable=False)
    page = _page(type(model).__name__, len(pictures), found, drawn)
    files.write(home / PAGE, page.encode(), durable=False)
    return Filters(len(pictures), tuple(found), (home / PAGE, *(home / name for name in drawn)))


def first_filters(layer: Watched, size: tuple[int, int, int]) -> np.ndarray | None:
    """Give the filters of a first layer as pictures (n, C, K, K); ``None`` if they are none.

    Filters over channels that are no colours are taken apart, a channel each.
    """
    weight = getattr(layer.weighted, "weight", None)
    if not isinstance(weight, Tensor):
        return None
    bank = weight.detach().float().cpu()
    if bank.dim() == 2 and bank.shape[1] == size[0] * size[1] * size[2]:
        bank = bank.unflatten(1, size)
    if bank.dim() != 4:
        return None
    return (bank if bank.shape[1] in (1, 3) else bank.flatten(0, 1)[:, None]).numpy()


def _drawings(
    model: nn.Module, pictures: Tensor, units: Units, count: int, seed: int
) -> Iterator[tuple[str, str, bytes]]:
    """Draw what is seen of a layer: name, title, PNG."""
    layer = units.layer
    chosen = np.sort(np.argsort(-units.variance, kind="stable")[:count]).tolist()
    numbers = ", ".join(map(str, chosen))
    if len(layer.shape) == 3:
        yield "maps", f"activation maps of units {numbers}", _maps(model, pictures, layer, chosen)
    yield (
        "excites",
        "what excites a unit most, and what in it does",
        _excites(model, pictures, units, chosen),
    )
    climbed = ascend(model, layer, chosen, tuple(pictures.shape[1:]), seed=seed)  # pyright: ignore[reportArgumentType]
    climbs = Part(f"units {numbers}", climbed.float().cpu().numpy())
    yield "climbed", "pictures found by climbing the gradient", sheet([climbs], COLUMNS)
    yield (
        "occlusion",
        "red where covering lowers a unit",
        _occlusion(model, pictures, units, chosen),
    )
    yield "correlation", "correlation of units", matrix(units.correlation, layer.name)


@torch.no_grad()
def _maps(model: nn.Module, pictures: Tensor, layer: Watched, chosen: list[int]) -> bytes:
    """Maps of a few pictures, a row each."""
    heard: list[Tensor] = []
    with evaluating(model), listening(layer.seen, heard.append):
        model(pictures[:4])
    parts = []
    for place, maps in enumerate(heard[-1][:, chosen].float().cpu().numpy()):
        parts.append(Part(f"picture {place}", scaled(maps[:, None], signed=False), "magma"))
    return sheet(parts, max(COLUMNS, len(chosen)))


def _excites(model: nn.Module, pictures: Tensor, units: Units, chosen: list[int]) -> bytes:
    """A row a unit: the pictures that excite it most, then what in each does."""
    parts = []
    for unit in chosen:
        rows = units.strongest(unit, STRONGEST)
        some = pictures[torch.from_numpy(rows)]
        places = torch.from_numpy(units.places[rows, unit])
        signal = deconvolve(model, units.layer, some, unit, places).float().cpu().numpy()
        shown = [some.float().cpu().numpy(), scaled(signal, signed=True)]
        title = f"unit {unit}, outputs {', '.join(f'{p:.2f}' for p in units.peaks[rows, unit])}"
        parts.append(Part(title, np.concatenate(shown)))
    return sheet(parts, 2 * STRONGEST)


def _occlusion(model: nn.Module, pictures: Tensor, units: Units, chosen: list[int]) -> bytes:
    """For each unit the picture that excites it most, and where covering it lowers the unit."""
    best = [int(units.strongest(unit, 1)[0]) for unit in chosen]
    falls = [
        occlude(model, units.layer, pictures[row], unit)
        for row, unit in zip(best, chosen, strict=True)
    ]
    some = pictures[best].float().cpu().mean(1, keepdim=True).numpy()
    maps = scaled(torch.stack(falls)[:, None].float().cpu().numpy(), signed=True)
    parts = [Part("the picture that excites each most", some), Part("covered", maps, "RdBu_r")]
    return sheet(parts, COLUMNS)


def _sentence(units: Units) -> str:
    told = [
        f"{len(numbers)} {name} ({', '.join(map(str, numbers[:12]))}{', ...' if numbers[12:] else ''})"
        for name, numbers in (("dead", units.dead), ("saturated", units.saturated))
        if numbers
    ]
    if pairs := units.duplicates:
        shown = ", ".join(f"{i} and {j} ({value:+.3f})" for i, j, value in pairs[:6])
        more = ", ..." if pairs[6:] else ""
        told.append(f"{len(pairs)} pairs of duplicates ({shown}{more})")
    return f"{units.layer.name}: {len(units.mean)} units, {'; '.join(told) or 'all of use'}"


def _page(model: str, count: int, found: list[Units], drawn: dict[str, tuple[str, bytes]]) -> str:
    """One page with all pictures inside."""
    rows = "".join(
        f"<tr><td>{html.escape(units.layer.name)}<td>{html.escape(units.layer.kind)}"
        f"<td>{' x '.join(map(str, units.layer.shape))}<td>{units.variance.mean():.4g}"
        f"<td>{html.escape(_sentence(units).split(' units, ')[1])}"
        for units in found
    )
    pictures = "".join(
        f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        for title, content in drawn.values()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(model)} from inside</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(model)}, seen from inside</h1>"
        f"<p>Looked at with {count:,} pictures.</p><table><tr><th>layer<th>kind<th>output"
        f"<th>mean variance<th>units</tr>{rows}</table>{pictures}</html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}h2{font-size:1rem;margin:2rem 0 .3rem}img{max-width:100%}"
    "td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}"
)
