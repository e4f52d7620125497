"""The gradient check of a trained model, on its own loss and data."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from unrolled.checkpoint.load import Trained
from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.inspect.calls import Call, noting_calls
from unrolled.inspect.gradient_report import CHECKS, GradientReport
from unrolled.inspect.gradients import check_subject
from unrolled.inspect.model_data import with_data
from unrolled.inspect.page import Page
from unrolled.inspect.subject import Subject, subject_of
from unrolled.tasks.drawing import INK, encode, make_figure

EPSILON = 1e-4
TOLERANCE = 1e-5
EXACT = 1e-9


def check_model(
    trained: Trained,
    source: str,
    *,
    eps: float = EPSILON,
    entries: int = 20,
    batch: int = 3,
    seed: int = 0,
) -> GradientReport:
    """Check the gradients of a trained model's loss, as :func:`unrolled.check_gradients` does.

    Everything happens in float64 and evaluation mode. The loss is divided by the largest of its gradients,
    so that errors mean the same whatever it measures. Rows are compared for each recurrent net inside.

    Args:
        trained: The model.
        source: Data such as it was trained on.
        eps: Step of a central difference, relative to weights above 1.
        entries: Most numbers checked of each parameter, drawn at random.
        batch: Rows of the first batch.
        seed: Of which numbers are drawn, and of what the loss draws.

    Raises:
        InputError: If the data does not fit, or the model is fitted without gradients.
    """
    if not eps > 0:
        raise InputError(f"eps must be above 0, not {eps}")
    task = with_data(trained, source, dtype="float64")
    if task.closed_form:
        raise InputError(
            f"{trained.directory} is fitted in closed form; there are no gradients to check"
        )
    model = task.build().eval()
    model.load_state_dict(trained.model.state_dict())
    given = task.batch(0, task.few(batch))

    def loss() -> Tensor:
        with counter(seed):
            return task.loss(model, given, {})[0]

    with torch.enable_grad(), noting_calls(model) as calls:
        weights = [w for w in model.parameters() if w.requires_grad]
        found = torch.autograd.grad(loss(), weights, allow_unused=True)
    largest = max((float(g.abs().max()) for g in found if g is not None and g.numel()), default=0.0)
    if not largest:
        raise InputError(
            f"the loss of {trained.directory} has no gradient on the first rows of {source}"
        )
    report = GradientReport(trained.directory.resolve().name, None, TOLERANCE, EXACT)
    subject = Subject(
        model,
        {},
        lambda: {"loss": loss() / largest},
        widths={name: extra.shape[-1] for call in calls for name, extra in call.extras.items()},
    )
    if calls := _each_once(calls):
        subject.batch = min(call.x.shape[1] for call in calls)
        subject.alone = lambda row: _outputs(calls, slice(row, row + 1))
        subject.whole = lambda: _outputs(calls, slice(0, subject.batch))
        subject.dimensions = dict.fromkeys(_outputs(calls, slice(0, 1)), 1)
    check_subject(lambda: subject, report, eps=eps, entries=entries, seed=seed)
    for call in calls:
        _steps(call, report, eps, entries, seed)
    wrong = [row.name for row in report.rows if row.check == "steps" and not row.ok]
    if wrong:
        report.notes.append(f"wrong in a single step already: {', '.join(wrong)}")
    return report


def _steps(call: Call, report: GradientReport, eps: float, entries: int, seed: int) -> None:
    """Check one step of each cell: a wrong gate is wrong there, and not yet in what it feeds."""
    for place, cell in call.cells:
        alone = GradientReport(place, None, report.tolerance, report.exact)
        given = {
            name: (extra if extra.dim() == 2 else extra[0])[:1]
            for name, extra in call.extras.items()
        }
        parameters = {name for name, _ in cell.named_parameters()}
        check_subject(
            partial(subject_of, cell, None, 1, 1, given),
            alone,
            eps=eps,
            entries=entries,
            seed=seed,
        )
        report.rows += [
            replace(row, check="steps", name=f"{call.name}: {place}: {row.name}".removeprefix(": "))
            for row in alone.rows
            if row.check == "differences" and row.name in parameters
        ]


def page_of(report: GradientReport) -> Page:
    """Lay a report out as a page."""
    page = Page(f"Gradient check of {report.subject}")
    page.printed(str(report))
    page.picture("errors.png", "Relative error of each tensor", _drawn(report))
    return page


def _each_once(calls: list[Call]) -> list[Call]:
    """Leave of the calls of each net the last."""
    return [*{call.name: call for call in calls}.values()]


def _outputs(calls: list[Call], rows: slice) -> dict[str, Tensor]:
    with torch.no_grad():
        return {f"y of {call.name or 'the net'}": call.run(rows) for call in calls}


def _drawn(report: GradientReport) -> bytes:
    rows = [row for row in report.rows if row.check in CHECKS]
    figure = make_figure((8, 0.25 * len(rows) + 1.2))
    panel = figure.subplots()
    errors = [min(max(row.error, 1e-17), 1e3) for row in rows]
    colours = ["#4477aa" if row.ok else "#cc3311" for row in rows]
    panel.barh(range(len(rows)), errors, left=1e-18, color=colours)
    panel.set_xscale("log")
    panel.set_yticks(range(len(rows)), [f"{row.name} ({row.check})" for row in rows], fontsize=7)
    panel.invert_yaxis()
    for limit in (report.tolerance, report.exact):
        panel.axvline(limit, color=INK, linewidth=0.8, linestyle=":")
    panel.set_xlabel("relative error; dotted: what differences, and engines and rows, may have")
    return encode(figure)
