"""Read-outs: what is told of the states at each step.

They are cells, so that they run over time (:class:`~unrolled.Recurrent`), in a stack
(:class:`~unrolled.Mixed`) and step by step, and never past a row's end.
"""

from torch import Tensor, nn

from unrolled.cells.activations import Activation, activation
from unrolled.engine import Cell


class Readout(Cell):
    """o_t = phi(V h_t): no state.

    With ``"sigmoid"`` o_t = sigma(V h_t); as it stands and with one output, <v, h_t>.

    Args:
        input_size: Width H of h.
        outputs: Width O of o.
        nonlinearity: phi, by name or as a function.
        bias: Whether there is a bias: phi(V h_t + b).

    Raises:
        ValueError: If there is no activation of that name.
    """

    state_names = ()
    output_names = ("o",)

    def __init__(
        self,
        input_size: int,
        outputs: int = 1,
        nonlinearity: str | Activation = "identity",
        *,
        bias: bool = False,
    ) -> None:
        super().__init__(input_size, outputs)
        self.v = nn.Linear(input_size, outputs, bias=bias)
        self.phi = activation(nonlinearity)

    def step(self, h: Tensor) -> Tensor:
        """Compute one step: h (B, H) -> o (B, O)."""
        return self.phi(self.v(h))


class WindowReadout(Cell):
    """y_t = softmax(sum_{i=0..tau} alpha^i W_i h_{t-i}), a matrix W_i for each lag i. State: h (B, H).

    alpha^i is a power, W_i one of tau + 1 matrices; h is zero before the first step. The state is what was
    read, so that the next part of a sequence goes on where this one ends. The sum is recorded as the gate
    ``sum``.

    Args:
        input_size: Width H of h.
        outputs: Width O of y.
        window: tau, the lags besides 0.
        alpha: How much less each further lag counts.
        softmax: Whether y is the softmax, or the sum itself, as a loss that takes logits wants it.

    Raises:
        ValueError: If the window is negative.
    """

    output_names = ("y",)

    def __init__(
        self,
        input_size: int,
        outputs: int,
        window: int = 2,
        alpha: float = 1.0,
        *,
        softmax: bool = True,
    ) -> None:
        super().__init__(input_size, input_size)
        if window < 0:
            raise ValueError(f"the window must be at least 0 steps back, not {window}")
        self.outputs, self.alpha, self.softmax = outputs, alpha, softmax
        self.delays = {"h": tuple(range(1, window + 1)) or (1,)}  # pyright: ignore[reportAttributeAccessIssue]
        self.w = nn.ModuleList(
            nn.Linear(input_size, outputs, bias=False) for _ in range(window + 1)
        )

    @property
    def output_size(self) -> int:
        """O."""
        return self.outputs

    def step(self, x: Tensor, h: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Compute one step: h_t (B, H), h of 1 to tau steps ago (B, H) -> h_t (B, H), y_t (B, O)."""
        a = sum(
            self.alpha**i * w(past)
            for i, (w, past) in enumerate(zip(self.w, (x, *h), strict=False))
        )
        a = self.gate("sum", a)  # pyright: ignore[reportArgumentType]
        return x, a.softmax(-1) if self.softmax else a
