"""What a training step keeps and takes, in numbers and not in bytes of the system."""

import pytest
import torch

from unrolled import cells
from unrolled.cells.standard import GRUCell, LSTMCell, RNNCell
from unrolled.engine.compile import build
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace


@pytest.mark.parametrize(
    ("cell", "widths"),
    [
        (RNNCell(3, 4), 0),  # h alone
        (LSTMCell(3, 4), 5),  # c and the four gates
        (GRUCell(3, 4), 4),  # r, z, n and the third of W h + b that r multiplies
        (cells.Elman(3, 4), 0),
    ],
)
def test_no_more_is_kept_for_the_backward_pass_than_it_reads(cell, widths):
    step = rewrite(trace(cell, {}, torch.float32))
    program = build(step, [cell.state_names[0]], differentiate=True)
    arrays = program.memory.arrays
    kept = {*program.kept, *program.states.values()} - {program.states["h"]}
    assert sum(arrays[index].width for index in kept) == 4 * widths
