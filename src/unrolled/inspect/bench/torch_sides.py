"""The sides that torch runs: ours, torch.nn, and the loop around a step, compiled or not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unrolled import layers
from unrolled.inspect.bench.cells import OWN, Loop
from unrolled.inspect.bench.side import Arrays, Case, Results, Side, Skipped, no_lengths
from unrolled.inspect.bench.workloads import Workload


class TorchSide(Side):
    """A module of torch.

    Args:
        case: The workload.
        module: x -> (y, ...); its weights are overwritten.
        rename: The module's name of a parameter -> torch.nn's.
        run: What is called, if not the module: the same, compiled.
        pad: Whether rows of unequal lengths are padded rather than packed.
    """

    def __init__(
        self,
        case: Case,
        module: nn.Module,
        rename: Callable[[str], str] = str,
        run: Callable[..., Any] | None = None,
        *,
        pad: bool = False,
    ) -> None:
        self.workload, self.module, self.rename = case.workload, module, rename
        self.run = module if run is None else run
        self.autocasts = case.workload.precision == "bfloat16"
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(torch.tensor(case.weights[rename(name)]))
        x, lengths = torch.from_numpy(case.x), case.workload.lengths
        self.x: Tensor | PackedSequence = x
        self.mask: Tensor | None = None
        if lengths is not None and pad:
            steps = torch.arange(len(x))[:, None, None]
            self.mask = (steps < torch.from_numpy(lengths)[:, None]).float()  # (T, B, 1)
        elif lengths is not None:
            self.x = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)

    def once(self) -> None:
        """Run forward, and backward where the workload asks for it."""
        self._compute()

    def results(self) -> Results:
        """Give y and the gradients."""
        y = self._compute()
        if isinstance(y, PackedSequence):
            y, _ = pad_packed_sequence(y, total_length=self.workload.steps)
        elif self.mask is not None:
            y = y * self.mask
        gradients = {
            self.rename(name): parameter.grad.float().numpy().copy()
            for name, parameter in self.module.named_parameters()
            if parameter.grad is not None
        }
        return Results(y.detach().float().numpy().copy(), gradients)

    def _compute(self) -> Any:  # noqa: ANN401 - a tensor, or packed
        autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocasts)
        if self.workload.mode == "infer":
            with torch.no_grad(), autocast:
                return self.run(self.x)[0]
        with autocast:
            y = self.run(self.x)[0]
        flat = y.data if isinstance(y, PackedSequence) else y
        flat = flat if self.mask is None else flat * self.mask
        self.module.zero_grad(set_to_none=True)
        (flat.float() ** 2).sum().backward()
        return y


def make_case(workload: Workload) -> Case:
    """Draw the weights and the input of a layer, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, rename = (
            (_standard(nn, workload), str) if workload.standard else (Loop(workload), _own)
        )
    weights: Arrays = {
        rename(name): parameter.detach().numpy() for name, parameter in module.named_parameters()
    }
    shape = workload.steps, workload.batch, workload.inputs
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return Case(workload, x, weights)


def ours(case: Case) -> Side:
    """Give this package's layer, in whichever engine suits."""
    workload = case.workload
    if workload.standard:
        return TorchSide(case, _standard(layers, workload))
    cell = OWN[workload.cell](workload.inputs, workload.hidden)
    return TorchSide(case, layers.Recurrent(cell), _own)


def torch_nn(case: Case) -> Side:
    """Give torch.nn's layer; rows of unequal lengths are packed."""
    _check_standard(case)
    return TorchSide(case, _standard(nn, case.workload))


def padded(case: Case) -> Side:
    """Give torch.nn's layer over padded rows, what lies past their ends left out of the loss."""
    _check_standard(case)
    if not case.workload.packed:
        raise Skipped("is for unequal lengths")
    return TorchSide(case, _standard(nn, case.workload), pad=True)


def loop(case: Case) -> Side:
    """Give a Python loop over the cell's own step."""
    module, rename = _loop(case)
    return TorchSide(case, module, rename)


def compiled_loop(case: Case) -> Side:
    """Give the same loop through ``torch.compile``."""
    module, rename = _loop(case)
    torch._dynamo.reset()  # so that no workload finds the limit of recompilations reached
    return TorchSide(case, module, rename, torch.compile(module))


def reference(case: Case) -> Side:
    """Give what all others are compared with: torch.nn, or the loop where it lacks the cell."""
    return torch_nn(case) if case.workload.standard else loop(case)


@contextmanager
def precision_of(workload: Workload) -> Iterator[None]:
    """Let torch compute float32 products as the workload says meanwhile."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if workload.precision == "high" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _standard(home: Any, workload: Workload) -> nn.Module:  # noqa: ANN401 - a module with RNN, ...
    more = {"proj_size": workload.projection} if workload.projection else {}
    kind = getattr(home, workload.cell.upper())
    return kind(workload.inputs, workload.hidden, workload.layers, **more)


def _check_standard(case: Case) -> None:
    if not case.workload.standard:
        raise Skipped("has no such cell")


def _loop(case: Case) -> tuple[nn.Module, Callable[[str], str]]:
    no_lengths(case)
    if case.workload.projection:
        raise Skipped("has no step with a projection")
    return Loop(case.workload), _of_layer if case.workload.standard else _own


def _of_layer(name: str) -> str:
    """``cells.1.weight_ih`` is ``weight_ih_l1``."""
    _, layer, own = name.split(".")
    return f"{own}_l{layer}"


def _own(name: str) -> str:
    """``cells.0.x.weight`` is the cell's ``x.weight``."""
    return name.removeprefix("cells.0.")
