"""A trained model with the data it learned from, read again."""

from unrolled.checkpoint.load import Trained
from unrolled.data.builtin import BUILTINS
from unrolled.errors import InputError
from unrolled.inspect.cells import cells_of
from unrolled.settings import Settings
from unrolled.tasks.caption import Caption
from unrolled.tasks.task import Task, task_class
from unrolled.tasks.text_models import TextCNN
from unrolled.tasks.translate import Translate


def with_data(trained: Trained, source: str, **flags: object) -> Task:
    """Give a model's task, prepared with data, so that it has batches and splits.

    Args:
        trained: The model.
        source: Data such as it was trained on: a file, a directory, a data set.
        flags: Settings that are to differ, as ``batch_size=1``.

    Raises:
        InputError: If the data is missing or damaged, or is encoded otherwise than the model expects.
    """
    settings = Settings.from_flags(
        trained.settings.task, {"source": (source,), **flags}, trained.settings
    )
    task = task_class(settings.task).prepare(settings)
    # What counts is that every symbol and label has the number it had.
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for model in (task.build(), trained.model)
    ]
    if shapes[0] != shapes[1] or _symbols(task) != _symbols(trained.task):
        known = " or ".join(trained.settings.data.source) or f"one of {', '.join(BUILTINS)}"
        raise InputError(
            f"{source} has other symbols, labels or sizes than {trained.directory} was trained with; "
            f"give the data of its training, {known}"
        )
    return task


def lacking(trained: Trained, why: str) -> InputError:
    """Say that a model has not what it was asked for, and what can be inspected in its place.

    Args:
        trained: The model.
        why: What goes on the sentence that its directory begins.
    """
    model, has = trained.model, ["graph"]
    if not cells_of(model) and not any(w.requires_grad for w in model.parameters()):
        has = []
    if not trained.task.closed_form:
        has.append("check")
    if cells_of(trained.model):
        has += ["gradients", "activations"]
    if isinstance(trained.task, Translate | Caption):
        has.append("attention")
    if isinstance(trained.model, TextCNN):
        has.append("ngrams")
    named = f"this {trained.task.name} model"
    told = f"of {named} look at {', '.join(has)}"
    if not has:
        told = f"{named} is fitted in closed form, so that none of these shows it; use evaluate"
    return InputError(f"{trained.directory} {why}; {told}")


def _symbols(task: Task) -> object:
    """Give what numbers are called, without what was measured on the data."""
    return {
        name: value
        for name, value in task.artefacts().vocabulary.items()
        if not isinstance(value, float | int)
        and name in ("labels", "symbols", "vocabulary", "text")
    }
