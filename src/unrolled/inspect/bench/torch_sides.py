"""The sides that torch runs: ours, torch.nn, and the loop around a step, compiled or not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unrolled import engine, layers
from unrolled.engine.randomness import counter
from unrolled.inspect.bench.loops import loop_of, make_cell
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
        self.load(case)
        x, lengths = torch.from_numpy(case.x), case.workload.lengths
        self.x: Tensor | PackedSequence = x
        self.mask: Tensor | None = None
        if lengths is not None and pad:
            steps = torch.arange(len(x))[:, None, None]
            self.mask = (steps < torch.from_numpy(lengths)[:, None]).float()  # (T, B, 1)
        elif lengths is not None:
            self.x = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)

    def load(self, case: Case) -> None:
        """Give the module the weights of a case."""
        known = {**case.constants, **case.weights}
        with torch.no_grad():
            for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
                tensor.copy_(torch.tensor(known[self.rename(name)]))

    def gradients(self) -> Arrays:
        """Give the gradients by the names of the weights."""
        return {
            self.rename(name): parameter.grad.float().numpy().copy()
            for name, parameter in self.module.named_parameters()
            if parameter.grad is not None
        }

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
        return Results(y.detach().float().numpy().copy(), self.gradients())

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
        bare = replace(workload, noise="")
        module = _standard(nn, workload) if workload.standard else make_cell(bare)
    weights, constants = (
        {name: tensor.detach().numpy() for name, tensor in named}
        for named in (module.named_parameters(), module.named_buffers())
    )
    shape = workload.steps, workload.batch, workload.inputs
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return Case(workload, x, weights, constants)


def ours(case: Case) -> Side:
    """Give this package's layer, in whichever engine suits."""
    workload = case.workload
    if workload.standard:
        return TorchSide(case, _standard(layers, workload))
    layer = layers.Recurrent(make_cell(workload))
    if workload.noise:
        return TorchSide(case, layer, _within, _same_noise(layer))
    return TorchSide(case, layer, _own)


def _same_noise(layer: nn.Module) -> Callable[[Tensor], Any]:
    """Let every call draw the same."""

    def run(x: Tensor) -> Any:  # noqa: ANN401 - what the layer gives
        with counter(0):
            return layer(x)

    return run


def plain(case: Case) -> Side:
    """Give ours without the noise, for the same weights."""
    if not case.workload.noise:
        raise Skipped("is for noise in the loop")
    return ours(case.plain)


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
    """Give what all others are compared with: torch.nn, or the loop where it lacks the cell.

    Noise is drawn by this package alone: there it is the reference engine.
    """
    if case.workload.noise:
        layer = layers.Recurrent(make_cell(case.workload))
        return TorchSide(case, layer, _within, engine.engine("reference")(_same_noise(layer)))
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
    if case.workload.noise:
        raise Skipped("draws no noise")
    return loop_of(case.workload), _of_layer if case.workload.standard else _own


def _of_layer(name: str) -> str:
    """``cells.1.weight_ih`` is ``weight_ih_l1``."""
    _, layer, own = name.split(".")
    return f"{own}_l{layer}"


def _own(name: str) -> str:
    """``cells.0.x.weight`` is the cell's ``x.weight``."""
    return name.removeprefix("cells.0.")


def _within(name: str) -> str:
    """``cells.0.cell.x.weight`` is ``x.weight`` of the cell that noise is around."""
    return _own(name).removeprefix("cell.")
