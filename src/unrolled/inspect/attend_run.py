"""The doctor at the beginning of a run."""

from unrolled import console
from unrolled.inspect.examine import examine
from unrolled.train.callbacks import Callback, Start


class Doctor(Callback):
    """Examines task and model before the first update, and says on standard error what is wrong.

    Args:
        json: Print one JSON line on standard output instead.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def on_start(self, event: Start) -> None:
        """Examine, unless the run goes on from a checkpoint."""
        if event.step:
            return
        found = examine(event.task)
        if self.json:
            console.print_json({"event": "doctor", **found.to_dict()})
        else:
            console.logs().print(f"{found}\n", soft_wrap=True, markup=False, highlight=False)
