"""Initial weights, by name.

A cell with ``blocks`` has its weights in blocks of rows, one a gate: those of the input in
``cell.x`` and of the state in ``cell.h``, or as torch.nn names them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unrolled.engine import Cell


def uniform_start(cell: Cell) -> None:
    """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch.nn's recurrent layers do."""
    bound = cell.hidden_size**-0.5 if cell.hidden_size else 0.0
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def normal_start(model: nn.Module, scale: float) -> None:
    """Draw every weight of a model from N(0, scale^2) and set every bias to zero."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=scale)
        else:
            nn.init.zeros_(parameter)


def _identity(weight: Tensor, gain: float = 1.0) -> None:
    nn.init.eye_(weight).mul_(gain)


def _lecun(weight: Tensor) -> None:
    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)


def _sparse(weight: Tensor, connections: int = 15, scale: float = 1.0) -> None:
    """Give each unit this many incoming weights other than zero, from N(0, scale^2)."""
    order = torch.rand(weight.shape).argsort(1).argsort(1)
    weight.normal_(std=scale).mul_(order < connections)


STARTS: dict[str, Callable[..., object]] = {
    "identity": _identity,
    "orthogonal": nn.init.orthogonal_,
    "glorot": nn.init.xavier_uniform_,
    "he": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "lecun": _lecun,
    "sparse": _sparse,
    "normal": lambda weight, scale=0.01: nn.init.normal_(weight, std=scale),
}


@torch.no_grad()
def start_(weight: Tensor, name: str, **options: float) -> Tensor:
    """Draw a matrix (out, in) anew, in place.

    Args:
        weight: The matrix.
        name: ``identity`` (times `gain`), ``orthogonal`` (times `gain`; Saxe, McClelland & Ganguli
            2014), ``glorot`` (uniform, times `gain`; Glorot & Bengio 2010), ``he`` (normal; He et
            al. 2015), ``lecun`` (N(0, 1/in); LeCun et al. 1998), ``sparse`` (`connections` = 15
            weights a unit from N(0, `scale`^2), the others zero; Martens 2010) or ``normal``
            (N(0, `scale`^2), `scale` = 0.01).
        options: As named there.

    Raises:
        ValueError: If there is no such name, or it has no such option.
    """
    if name not in STARTS:
        raise ValueError(f"no initialisation {name!r}; give one of {', '.join(STARTS)}")
    try:
        STARTS[name](weight, **options)
    except TypeError:
        raise ValueError(f"initialisation {name!r} takes no {', '.join(options)}") from None
    return weight


def start_weights(
    cell: Cell, which: str, name: str, blocks: Sequence[str] = (), **options: float
) -> None:
    """Draw a cell's ``recurrent`` or ``input`` weights anew, each block as a matrix of its own.

    Args:
        cell: The cell.
        which: ``recurrent`` or ``input``.
        name: As :func:`start_` has it.
        blocks: The gates meant; all if left out.
        options: As :func:`start_` has them.

    Raises:
        ValueError: If the cell has no such weights or gates, or there is no such initialisation.
    """
    named = dict(zip(("input", "recurrent"), weights_of(cell), strict=True))
    if which not in named:
        raise ValueError(f"which must be input or recurrent, not {which!r}")
    for block in blocks or blocks_of(cell):
        start_(block_of(cell, named[which], block), name, **options)


@torch.no_grad()
def forget_bias_start(cell: Cell, value: float) -> None:
    """Set the bias of the forget gate (Gers et al. 2000; 1 in Jozefowicz, Zaremba & Sutskever 2015).

    Raises:
        ValueError: If the cell has no forget gate with a bias.
    """
    if "f" not in getattr(cell, "keeps", ()):
        raise ValueError(f"{type(cell).__name__} has no forget gate f")
    _set_bias(cell, "f", value)


@torch.no_grad()
def chrono_start(cell: Cell, longest: int) -> None:
    """Spread the time scales of units from 1 to `longest` steps (Tallec & Ollivier 2018).

    The bias of a gate that keeps the past is log U(1, longest - 1), of one that writes its negative.

    Raises:
        ValueError: If `longest` is below 3, or the cell has no such gates.
    """
    keeps, writes = getattr(cell, "keeps", ()), getattr(cell, "writes", ())
    if not keeps and not writes:
        raise ValueError(f"{type(cell).__name__} has no gate that keeps the past")
    if longest < 3:
        raise ValueError(f"the longest dependency must be at least 3 steps, not {longest}")
    drawn = torch.empty(cell.hidden_size).uniform_(1, longest - 1).log()
    for block in keeps:
        _set_bias(cell, block, drawn)
    for block in writes:
        _set_bias(cell, block, -drawn)


def blocks_of(cell: Cell) -> tuple[str, ...]:
    """Names of the blocks of rows of a cell's weights, in order.

    Raises:
        ValueError: If it does not say.
    """
    blocks = getattr(cell, "blocks", None)
    if blocks is None:
        raise ValueError(f"{type(cell).__name__} does not name the blocks of its weights")
    return blocks


def weights_of(cell: Cell) -> tuple[Tensor, Tensor]:
    """The weights of x (n H, I) and of h (n H, H).

    Raises:
        ValueError: If the cell has none that are parameters.
    """
    for x, h in (("x.weight", "h.weight"), ("weight_ih", "weight_hh")):
        named = dict(cell.named_parameters(remove_duplicate=False))
        if x in named and h in named:
            return named[x], named[h]
    raise ValueError(f"{type(cell).__name__} has no single matrix for x and for h")


def block_of(cell: Cell, tensor: Tensor, block: str) -> Tensor:
    """The rows of a weight or bias that belong to a gate, as a view.

    Raises:
        ValueError: If the cell has no such gate.
    """
    blocks = blocks_of(cell)
    if block not in blocks:
        raise ValueError(f"{type(cell).__name__} has no gate {block!r}, only {', '.join(blocks)}")
    rows = tensor.shape[0] // len(blocks)
    return tensor.narrow(0, blocks.index(block) * rows, rows)


def _set_bias(cell: Cell, block: str, value: float | Tensor) -> None:
    """Set the sum of the biases of a gate."""
    named = dict(cell.named_parameters())
    biases = [named[n] for n in ("x.bias", "h.bias", "bias_ih", "bias_hh") if n in named]
    if not biases:
        raise ValueError(f"{type(cell).__name__} has no bias")
    for bias in biases:
        block_of(cell, bias, block).zero_()
    block_of(cell, biases[0], block).copy_(torch.as_tensor(value))


def joint_weight(cell: Cell, order: Sequence[str] = ()) -> Tensor:
    """The weights as one matrix W = [W_x W_h], so that W [x_t; h_{t-1}] is what the gates are made of.

    Args:
        cell: A cell with one matrix for x and one for h.
        order: The gates from top to bottom, by name, as ``"ifog"``; the cell's own if left out.

    Returns:
        A copy (n H, I + H), through which gradients flow.

    Raises:
        ValueError: If the cell has no such matrices, or `order` does not name each gate once.
    """
    return torch.cat([torch.cat(rows, 1) for rows in _joint_rows(cell, order)])


@torch.no_grad()
def set_joint_weight(cell: Cell, weight: Tensor, order: Sequence[str] = ()) -> None:
    """Set the weights from one matrix [W_x W_h], as :func:`joint_weight` gives it.

    Raises:
        ValueError: If its shape is wrong, the cell has no such matrices, or `order` does not name
            each gate once.
    """
    rows = _joint_rows(cell, order)
    wanted = sum(len(x) for x, _ in rows), sum(part.shape[1] for part in rows[0])
    if tuple(weight.shape) != wanted:
        raise ValueError(f"the joint weight must be {wanted}, not {tuple(weight.shape)}")
    for (x, h), joint in zip(rows, weight.chunk(len(rows)), strict=True):
        x.copy_(joint[:, : x.shape[1]])
        h.copy_(joint[:, x.shape[1] :])


def _joint_rows(cell: Cell, order: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
    order = order or blocks_of(cell)
    if sorted(order) != sorted(blocks_of(cell)):
        raise ValueError(
            f"the order must name each gate of {type(cell).__name__} once "
            f"({', '.join(blocks_of(cell))}), not {', '.join(order)}"
        )
    x, h = weights_of(cell)
    return [(block_of(cell, x, block), block_of(cell, h, block)) for block in order]
