"""Losses of metric learning: examples of a class are to lie near each other, others far away.

All take points x (n, D) of a batch, and the class of each, labels (n,); d_ij is the distance of two.
"""

from typing import Literal

import torch
from torch import Tensor

Mining = Literal["all", "semi-hard", "hard"]


def distances(x: Tensor) -> Tensor:
    """Give the Euclidean distances of all pairs of points: (n, D) -> (n, n)."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def group_loss(x: Tensor, labels: Tensor, w: Tensor | None = None) -> Tensor:
    """Compute of each point sum_same ||w'(x_i - x_j)|| - sum_different ||w'(x_i - x_k)||.

    It has no least value where points may lie anywhere: bound their lengths, or those of w.

    Args:
        x: Points (n, D).
        labels: (n,).
        w: A linear map (D, E) that is learned; the identity if left out.

    Returns:
        (n,).
    """
    same, other = _pairs(labels)
    d = distances(x if w is None else x @ w)
    return (d * same).sum(1) - (d * other).sum(1)


def contrastive_loss(
    x: Tensor, labels: Tensor, margin: float = 1.0, mining: Mining = "all"
) -> Tensor:
    """Average d^2 / 2 of a class's pairs and max(0, m - d)^2 / 2 of others (Hadsell et al. 2006, eq. 4).

    Args:
        x: Points (n, D).
        labels: (n,).
        margin: m, beyond which other classes need not go.
        mining: ``all`` pairs; ``hard``: of each point the farthest of its class and the nearest of others.

    Returns:
        A scalar; 0 without pairs.

    Raises:
        ValueError: If `mining` is something else.
    """
    same, other = _pairs(labels)
    d = distances(x)
    match mining:
        case "all":
            pass
        case "hard":
            same, other = _farthest(d, same), _nearest(d, other)
        case _:
            raise ValueError(f"contrastive pairs are mined all or hard, not {mining}")
    terms = 0.5 * d.square() * same + 0.5 * (margin - d).relu().square() * other
    return terms.sum() / (same | other).sum().clamp(min=1)


def triplet_loss(x: Tensor, labels: Tensor, margin: float = 0.2, mining: Mining = "all") -> Tensor:
    """Average max(0, d_ap - d_an + m) over triplets of an anchor, one of its class and one of another.

    Args:
        x: Points (n, D).
        labels: (n,).
        margin: m.
        mining: ``all`` triplets; ``semi-hard``: for each anchor and one of its class, the nearest of
            those others that are farther away, or if there are none the farthest (Schroff et al. 2015,
            section 3.2); ``hard``: of each anchor the farthest of its class and the nearest of others
            (Hermans et al. 2017, eq. 5).

    Returns:
        A scalar; 0 without triplets.

    Raises:
        ValueError: If `mining` is something else.
    """
    same, other = _pairs(labels)
    d = distances(x)
    match mining:
        case "all":
            valid = same[:, :, None] & other[:, None, :]  # (a, p, n)
            terms = (d[:, :, None] - d[:, None, :] + margin).relu() * valid
        case "semi-hard":
            valid = same & other.any(1, keepdim=True)  # (a, p)
            far = other[:, None, :] & (d[:, None, :] > d[:, :, None])
            nearest = d[:, None, :].masked_fill(~far, torch.inf).amin(2)
            farthest = d.masked_fill(~other, 0).amax(1, keepdim=True)
            chosen = torch.where(far.any(2), nearest, farthest)
            terms = (d - torch.where(valid, chosen, 0) + margin).relu() * valid
        case "hard":
            valid = same.any(1) & other.any(1)  # (a,)
            farthest = d.masked_fill(~same, 0).amax(1)
            nearest = d.masked_fill(~other, torch.inf).amin(1)
            terms = (farthest - torch.where(valid, nearest, 0) + margin).relu() * valid
        case _:
            raise ValueError(f"triplets are mined all, semi-hard or hard, not {mining}")
    return terms.sum() / valid.sum().clamp(min=1)


def n_pairs_loss(x: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Average ln(1 + sum_k exp((x_i'x_k - x_i'x_j) / t)) over pairs i, j of a class, k of all others.

    (Sohn 2016, eq. 4, which has one pair of each class, and t = 1.)

    Args:
        x: Points (n, D).
        labels: (n,).
        temperature: t; below 1 for points of length 1, whose products are small.

    Returns:
        A scalar; 0 without pairs.
    """
    same, other = _pairs(labels)
    products = x @ x.T / temperature
    rest = products.masked_fill(~other, -torch.inf).logsumexp(1, keepdim=True)  # (i, 1)
    # where there are no others nothing is to be lost
    terms = torch.nn.functional.softplus(rest - products)
    valid = same & other.any(1, keepdim=True)
    return torch.where(valid, terms, 0).sum() / valid.sum().clamp(min=1)


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs are of one class, without points themselves, and which of two: (n, n)."""
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


def _farthest(d: Tensor, among: Tensor) -> Tensor:
    """Mark in each row the farthest of some."""
    place = d.masked_fill(~among, -1).argmax(1, keepdim=True)
    return torch.zeros_like(among).scatter(1, place, value=True) & among


def _nearest(d: Tensor, among: Tensor) -> Tensor:
    """Mark in each row the nearest of some."""
    place = d.masked_fill(~among, torch.inf).argmin(1, keepdim=True)
    return torch.zeros_like(among).scatter(1, place, value=True) & among
