"""What the doctor found: plain figures, and findings with evidence, cause and one next command."""

import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

from unrolled.settings import flag
from unrolled.tasks.task import Task


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or likely so."""

    name: str
    """One of :data:`FINDINGS`."""
    evidence: str
    """What was measured."""
    cause: str
    """What most likely stands behind it."""
    command: str
    """What to run next."""

    def __str__(self) -> str:
        """Give four lines."""
        return (
            f"{self.name}\n  seen   {self.evidence}\n  cause  {self.cause}\n  next   {self.command}"
        )


FINDINGS = (
    "weights are no numbers",
    *("wrong gradient", "rate too high", "rate too low", "loss unfit", "labels tell nothing"),
    *("target leak", "same examples in two parts", "unbalanced labels", "inputs unscaled"),
    *(
        "too large a start",
        "saturated start",
        "dead units",
        "state not reset",
        "batch norm of one row",
    ),
    *("cannot learn two examples", "too small", "more weights than data", "waits for data", "slow"),
)
"""All that can be found."""


@dataclass
class Diagnosis:
    """All that was measured, and what is wrong. ``str()`` is a page; without findings all is well."""

    facts: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """What was found, by name."""
        return [finding.name for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return {"facts": self.facts, "findings": [asdict(one) for one in self.findings]}

    def __str__(self) -> str:
        """Give figures, then findings."""
        width = max(map(len, self.facts), default=0)
        facts = [f"{name.ljust(width)}  {value}" for name, value in self.facts.items()]
        told = [str(one) for one in self.findings] or ["nothing is wrong as far as it can be seen"]
        return "\n".join([*facts, "", "\n\n".join(told)])


def again(task: Task, **flags: object) -> str:
    """Write a command that trains with other settings."""
    words = ["unrolled", "train", task.name, *task.settings.data.source]
    for name, value in flags.items():
        words += [flag(name), f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
