"""Whether gradients are right: against differences, one engine against the other, a row against a batch.

T steps, B rows. Everything happens on a copy in float64 and in evaluation mode.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import choose
from unrolled.engine.cell import sample_of
from unrolled.errors import InputError
from unrolled.inspect.cells import cells_of
from unrolled.inspect.gradient_report import GradientReport, worst_of
from unrolled.inspect.subject import Subject, subject_of

FLOOR = 1e-4
"""Gradients below it are compared by their difference: differences of float64 are no finer."""
SHARE = 1e-3
"""So are those this much smaller than the largest of the same tensor."""


def check_gradients(
    what: nn.Module,
    make_input: Callable[[], Any] | None = None,
    *,
    engine: str | None = None,
    steps: int = 5,
    batch: int = 3,
    extras: Mapping[str, Tensor] | None = None,
    eps: float = 1e-5,
    tolerance: float = 1e-5,
    exact: float = 1e-9,
    entries: int = 50,
    seed: int = 0,
) -> GradientReport:
    """Check the gradients of a cell or a net.

    The loss is a random weighting of all results. Three things are checked: the gradient of every
    parameter, of the input and of the initial states against central differences; the results and
    gradients of the native engine against those of the reference engine, where the native engine
    runs; and the results of each row alone against those of the row in the batch.

    Args:
        what: A :class:`Cell`, a :class:`Recurrent`, an :class:`RNN`, :class:`LSTM` or :class:`GRU` or
            one of their cells; with `make_input`, any module. It is copied, never changed.
        make_input: Gives what the module is called with: a tensor, a tuple of arguments, or a dict of
            named ones. Tensors of floating point become float64, and their gradients are checked.
        engine: ``native`` or ``reference``; the one a run would take if left out.
        steps: T.
        batch: B.
        extras: Further inputs a cell declares, name -> (T, B, n) or (B, n); random (T, B, 1) if left
            out.
        eps: Step of a difference, relative to numbers above 1.
        tolerance: Largest relative error of a gradient against differences.
        exact: Largest relative error between engines, and between a row alone and in a batch.
        entries: Most numbers checked in a tensor, drawn at random in a larger one.
        seed: Of the input, the states, the loss, and which numbers are drawn.

    Returns:
        A report: ``ok``, ``rows`` with the worst number of each tensor, and a table as ``str()``.

    Raises:
        InputError: If `what` needs `make_input`, an argument is out of range, or there is no such
            engine.
    """
    for name, value in {"steps": steps, "batch": batch, "entries": entries}.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    for name, value in {"eps": eps, "tolerance": tolerance, "exact": exact}.items():
        if not value > 0:
            raise InputError(f"{name} must be above 0, not {value}")
    if not isinstance(what, nn.Module):
        raise InputError(f"there are no gradients to check in {what!r}; give a module")

    def subject() -> Subject:
        module = copy.deepcopy(what).double().eval()
        return subject_of(module, make_input, steps, batch, extras or {})

    report = GradientReport(type(what).__name__, engine, tolerance, exact)
    return check_subject(subject, report, eps=eps, entries=entries, seed=seed)


def check_subject(
    make: Callable[[], Subject],
    report: GradientReport,
    *,
    eps: float,
    entries: int,
    seed: int,
) -> GradientReport:
    """Check what is called in some way, and write it into a report; see :func:`check_gradients`."""
    engine = report.engine
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        check = _Check(make(), report, eps, entries, seed)
        with choose.engine(engine) if engine else nullcontext():
            check.differences()
        check.engines()
        with choose.engine(engine) if engine else nullcontext():
            check.rows()
    return report


class _Check:
    """Runs a subject and writes rows into a report."""

    def __init__(
        self, subject: Subject, report: GradientReport, eps: float, entries: int, seed: int
    ) -> None:
        self.subject, self.report = subject, report
        self.eps, self.entries, self.seed = eps, entries, seed
        self.leaves = subject.leaves()
        self.weights: dict[str, Tensor] = {}
        frozen = [n for n, p in subject.module.named_parameters() if not p.requires_grad]
        if frozen:
            report.notes.append(f"frozen, so not checked: {', '.join(frozen)}")

    def results(self) -> dict[str, Tensor]:
        """Run; the same random numbers each time."""
        torch.manual_seed(self.seed)
        return self.subject.run()

    def loss(self) -> Tensor:
        results = self.results()
        if not self.weights:
            # Later steps count as much as earlier ones, and no two results cancel each other.
            self.weights = {
                name: torch.randn_like(result) if result.dim() else torch.ones_like(result)
                for name, result in results.items()
            }
        return torch.stack([(r * self.weights[name]).sum() for name, r in results.items()]).sum()

    def gradients(self) -> dict[str, Tensor]:
        leaves = [*self.leaves.values()]
        loss = self.loss()
        if not loss.requires_grad:
            raise InputError(
                f"no result of {self.report.subject} depends on a parameter or an input"
            )
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if gradient is None else gradient.detach()
            for (name, leaf), gradient in zip(self.leaves.items(), found, strict=True)
        }

    def differences(self) -> None:
        """Compare each gradient with central differences."""
        generator = torch.Generator().manual_seed(self.seed)
        for name, gradient in self.gradients().items():
            size = gradient.numel()
            if not size:
                continue
            places = torch.randperm(size, generator=generator)[: self.entries].sort().values
            shape = gradient.shape
            floor = max(FLOOR, SHARE * float(gradient.abs().max()))
            found = []
            for place in places.tolist():
                index = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), shape))
                analytic = float(gradient[index])
                numeric = self._difference(self.leaves[name], index, analytic, floor)
                found.append((index, analytic, numeric))
            self.report.rows.append(
                worst_of("differences", name, size, found, floor, self.report.tolerance)
            )

    def _difference(
        self, leaf: Tensor, index: tuple[int, ...], analytic: float, floor: float
    ) -> float:
        """Give the difference; near a bend of the loss a shorter step is tried."""
        best = float("nan")
        for eps in (self.eps, self.eps / 30):
            numeric = self._central(leaf, index, eps)
            if not abs(best - analytic) <= abs(numeric - analytic):
                best = numeric
            if abs(numeric - analytic) <= self.report.tolerance * max(floor, abs(analytic)):
                break
        return best

    def _central(self, leaf: Tensor, index: tuple[int, ...], eps: float) -> float:
        with torch.no_grad():
            value = float(leaf[index])
            step = eps * max(1.0, abs(value))
            try:
                leaf[index] = value + step
                above, right = float(self.loss()), float(leaf[index])
                leaf[index] = value - step
                below, left = float(self.loss()), float(leaf[index])
            finally:
                leaf[index] = value
        return (above - below) / (right - left)

    def engines(self) -> None:
        """Compare results and gradients of the native engine with the reference engine's."""
        reasons = self._declined()
        if reasons is None or reasons:
            why = "; ".join(reasons or []) or "there is no cell inside"
            self.report.notes.append(f"engines not compared: {why}")
            return
        found: list[dict[str, Tensor]] = []
        for name in ("native", "reference"):
            with choose.engine(name):
                results = {k: v.detach() for k, v in self.results().items()}
                gradients = {f"gradient of {k}": v for k, v in self.gradients().items()}
                found.append(results | gradients)
        for name, native in found[0].items():
            self._compare("engines", name, native, found[1][name])

    def _declined(self) -> list[str] | None:
        """Why the native engine would not run the cells inside; ``None`` if there are none."""
        cells = cells_of(self.subject.module)
        reasons = []
        with choose.engine("native"):
            for _, cell in cells:
                device = sample_of(cell).device
                widths = {name: self.subject.widths.get(name, 1) for name in cell.extra_names}
                _, reason = choose.decide(cell, widths, torch.float64, device)
                if reason:
                    reasons.append(f"{type(cell).__name__}: {reason}")
        return [*dict.fromkeys(reasons)] if cells else None

    def rows(self) -> None:
        """Compare each row alone with the row in the batch."""
        if self.subject.alone is None:
            self.report.notes.append("rows not compared: which dimension is the batch is not known")
            return
        with torch.no_grad():
            whole = self.subject.whole() if self.subject.whole else self.results()
            parts = []
            for row in range(self.subject.batch):
                torch.manual_seed(self.seed)
                parts.append(self.subject.alone(row))
            for name, result in whole.items():
                together = torch.cat(
                    [part[name] for part in parts], self.subject.row_dimension(name)
                )
                self._compare("rows", name, together, result)

    def _compare(self, check: str, name: str, found: Tensor, wanted: Tensor) -> None:
        if not wanted.numel():
            return
        largest = float(wanted.abs().max())
        error = (found - wanted).abs().reshape(-1)
        place = int(torch.where(error.isnan(), torch.inf, error).argmax())
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(place), wanted.shape))
        entry = (index, float(found[index]), float(wanted[index]))
        floor = max(largest, FLOOR)
        self.report.rows.append(
            worst_of(check, name, wanted.numel(), [entry], floor, self.report.exact, all_of_it=True)
        )
