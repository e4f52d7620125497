"""One file a task: its data, model, loss, metric, baseline, and how a result is shown."""

from unrolled.tasks.task import TASKS, Artefacts, Carry, Criterion, Split, Task

__all__ = ["TASKS", "Artefacts", "Carry", "Criterion", "Split", "Task"]
