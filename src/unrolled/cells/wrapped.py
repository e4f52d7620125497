"""A cell around another."""

from typing import Any

from torch import Tensor

from unrolled.engine import Cell
from unrolled.engine.cell import Width


class Wrapped(Cell):
    """A cell around another, with its states, outputs, further inputs and noise.

    Args:
        cell: The cell within.
    """

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.input_size, cell.hidden_size)
        self.cell = cell
        self.state_names = cell.state_names  # pyright: ignore[reportAttributeAccessIssue]
        self.output_names = cell.output_names  # pyright: ignore[reportAttributeAccessIssue]
        self.delays = cell.delays  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def extra_names(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the cell."""
        return self.cell.extra_names

    @property
    def state_sizes(self) -> dict[str, Width]:
        """Those of the cell."""
        return self.cell.state_sizes

    @property
    def output_size(self) -> int:
        """That of the cell."""
        return self.cell.output_size

    def noise(self, x: Tensor, layer: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw that of the cell within."""
        extras, parameters = self.cell.noise(x, layer)
        return extras, {f"cell.{name}": value for name, value in parameters.items()}

    def step(self, x: Tensor, *states: Any, **extras: Tensor) -> Any:  # noqa: ANN401
        """Compute a step of the cell within."""
        return self.cell.step(x, *states, **extras)
