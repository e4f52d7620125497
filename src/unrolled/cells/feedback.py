"""Output feedback: the previous output, true or the model's own, is an input (Jordan 1986)."""

import torch
from torch import Tensor, nn

from unrolled.cells.activations import Activation, activation
from unrolled.cells.start import uniform_start
from unrolled.engine import Cell
from unrolled.engine.cell import Width
from unrolled.engine.randomness import uniform


class Jordan(Cell):
    """h_t = phi(W_x x_t + W_y y_{t-1} + b), y_t = psi(W_o h_t + c) (Jordan 1986). State: y (B, O).

    With `teacher`, y_{t-1} is the true one where the extra ``forced`` (B, 1) is 1: that of the extra
    ``target`` (B, O). :func:`teacher` makes both.

    Args:
        input_size: Width I of x.
        hidden_size: Width H of h, which is not carried.
        outputs: Width O of y; H if left out.
        nonlinearity: phi, by name or as a function.
        output: psi, by name or as a function.
        teacher: Whether there are the extras.

    Raises:
        ValueError: If there is no activation of that name.
    """

    state_names = ("y",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        outputs: int | None = None,
        *,
        nonlinearity: str | Activation = "tanh",
        output: str | Activation = "sigmoid",
        teacher: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.outputs = outputs or hidden_size
        self.x = nn.Linear(input_size, hidden_size)
        self.y = nn.Linear(self.outputs, hidden_size, bias=False)
        self.o = nn.Linear(hidden_size, self.outputs)
        self.phi, self.psi = activation(nonlinearity), activation(output)
        if teacher:
            self.extra_names = ("target", "forced")  # pyright: ignore[reportAttributeAccessIssue]
        uniform_start(self)

    @property
    def state_sizes(self) -> dict[str, Width]:
        """O."""
        return {"y": self.outputs}

    def step(
        self, x: Tensor, y: Tensor, target: Tensor | None = None, forced: Tensor | None = None
    ) -> Tensor:
        """Compute one step: x (B, I), y (B, O), target (B, O), forced (B, 1) -> y (B, O)."""
        if target is not None and forced is not None:
            y = torch.where(forced > 0.5, target, y)
        h = self.gate("h", self.phi(self.x(x) + self.y(y)))
        return self.psi(self.o(h))


def teacher(target: Tensor, probability: float = 1.0, layer: int = 0) -> dict[str, Tensor]:
    """Make the extras of a cell that is fed its output: the previous target, and when it is used.

    1 is teacher forcing, 0 lets the model use its own outputs, and what lies between is scheduled
    sampling (Bengio, Vinyals, Jaitly & Shazeer 2015): each row at each step draws anew, from the
    counters of :mod:`unrolled.engine.randomness`.

    Args:
        target: What the cell should put out (T, B, O).
        probability: Of the true output in place of the model's own.
        layer: Names the stream of random numbers.

    Returns:
        ``target`` (T, B, O), zero at the first step, and ``forced`` (T, B, 1), 0 or 1.

    Raises:
        ValueError: If the probability lies outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability must lie between 0 and 1, not {probability}")
    previous = torch.cat([torch.zeros_like(target[:1]), target[:-1]])
    drawn = uniform((*target.shape[:2], 1), layer, target)
    return {"target": previous, "forced": (drawn < probability).to(target)}
