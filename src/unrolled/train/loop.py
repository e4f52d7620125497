"""The training loop. It knows a task by its protocol only."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unrolled.checkpoint.directory import COMMIT, Commit, ModelDirectory
from unrolled.checkpoint.load import own_cell
from unrolled.checkpoint.weights import weights
from unrolled.engine import Declined
from unrolled.errors import InputError, Interrupted, RunError
from unrolled.layers.constrain import max_norm_
from unrolled.layers.penalties import chosen
from unrolled.layers.stack import part_streams
from unrolled.settings import Settings
from unrolled.tasks.task import Carry, Split, Task
from unrolled.train.average import Average
from unrolled.train.callbacks import Callback, Checkpoint, Evaluation, Sample, Start, Step
from unrolled.train.distributed import Group
from unrolled.train.gradients import Gradients
from unrolled.train.hessian_free import HessianFree, hessian_free, hessian_free_update
from unrolled.train.judge import Judge
from unrolled.train.log import Log
from unrolled.train.optimisers import clip, make_optimizer
from unrolled.train.plan import digest
from unrolled.train.schedules import factor
from unrolled.train.signals import Stop, stop_requests
from unrolled.train.state import capture, restore
from unrolled.train.whole import WholeStep, whole_step


@dataclass
class Position:
    """Where a run stands, besides tensors. Its fields are saved in every checkpoint."""

    smoothed_loss: float
    step: int = 0
    """Updates made."""
    loss: float = math.nan
    """Of the last update."""
    model_step: int = 0
    """The step whose weights `model.safetensors` holds."""
    judge: Judge = field(default_factory=Judge)


class Loop:
    """Updates weights until all steps are made or progress stops, and commits what must not be lost.

    Args:
        settings: Complete: nothing the loop needs is ``None``.
        task: A prepared task.
        directory: Where checkpoints go.
        group: The processes that train together.
        commit: The checkpoint to go on from.
        about: What to note beside the weights to use.

    Raises:
        InputError: If the checkpoint does not fit the model, or the batch the processes.
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        directory: ModelDirectory,
        group: Group,
        commit: Commit | None,
        about: dict[str, Any],
    ) -> None:
        self.settings, self.task, self.directory, self.group = settings, task, directory, group
        self.training = settings.training
        self.steps = self.training.steps or 0
        self.about = about
        self.device = group.device(self.training.device)
        self.rows = group.rows(self.training.batch_size)
        # The package draws from counters of its own; a user's cell may draw from torch.
        torch.manual_seed(self.training.seed + group.rank)
        self.model = task.build().to(self.device)
        part_streams(self.model)
        self.parameters = list(self.model.parameters())
        if self.training.optimizer == "hessian-free":
            if group.world > 1:
                raise InputError("--optimizer hessian-free runs in one process")
            self.optimizer = hessian_free(self.model, self.training)
        else:
            self.optimizer = make_optimizer(self.parameters, self.training)
        self.position = Position(smoothed_loss=task.initial_loss)
        self.average = None
        if self.training.average != "none":
            self.average = Average(self.model, self.training)
        self.bounded: list[nn.Parameter] = []
        if self.training.unit_norm is not None:
            held = chosen(self.model, self.training.penalised).values()
            self.bounded = [w for w in held if w.dim() > 1]
        self.carry: Carry = {}
        self.committed: int | None = None
        if commit:
            where = directory.path / COMMIT
            self.carry = restore(
                commit.tensors, self.model, self.optimizer, self.device, group, where
            )
            state = dict(commit.state)
            self.position = Position(judge=Judge(**state.pop("judge")), **state)
            if self.average:
                self.average.restore(commit.tensors, commit.step, where)
            self.committed = commit.step
        self.first_step = self.position.step
        self.whole: WholeStep | Declined
        try:
            self.whole = whole_step(task, self.model, self.optimizer, self.training, group)
        except Declined as reason:
            self.whole = reason
        self.parallel: nn.Module = self.model
        if group.world > 1 and not task.closed_form:
            # Weights of words that no row of a process has come to have no gradient there.
            partly = self.settings.generator.softmax == "adaptive"
            self.parallel = DistributedDataParallel(self.model, find_unused_parameters=partly)
        self.gradients = Gradients(task, self.model, self.training, self.rows, self.parallel)

    def run(
        self,
        log: Log | None,
        callbacks: Sequence[Callback],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the end.

        Args:
            log: The run's `metrics.jsonl`; rank 0 has it.
            callbacks: Who else is told of each event, on rank 0.
            begin: Prepares the directory. It is called after the first update, so that what is found
                wrong in it leaves no file, and no earlier run is lost for it.

        Raises:
            RunError: If the loss stops being a number, or a checkpoint cannot be written.
            Interrupted: If a signal asked to stop; a checkpoint is written.
        """
        self.log, self._begin = log, begin
        self.callbacks = [log, *callbacks] if log else []
        self.began, self.earlier, self.busy = time.perf_counter(), log.seconds if log else 0.0, 0.0
        self.model.train()
        count, unit = self.task.throughput()
        numbers = sum(w.numel() for w in self.parameters)
        start = Start(
            settings=self.settings,
            task=self.task,
            directory=self.directory.path,
            step=self.position.step,
            steps=self.steps,
            parameters=numbers,
            unit=unit,
            units_per_step=count,
            world=self.group.world,
            whole=None if isinstance(self.whole, WholeStep) else str(self.whole),
            model=self.model,
        )
        for callback in self.callbacks:
            callback.on_start(start)
        try:
            with stop_requests() as stop:
                self._train(stop, count)
        except RunError as error:
            raise RunError(f"{error} ({self._kept()})") from error.__cause__

    @property
    def seconds(self) -> float:
        """Spent on the run so far, earlier parts of a resumed run included."""
        return self.earlier + time.perf_counter() - self.began

    def interrupted(self) -> Interrupted:
        """Say how to go on from the last checkpoint."""
        settings, where = self.settings, self.directory.path
        cell = f" --cell {settings.model.cell}" if own_cell(settings) else ""
        return Interrupted(
            f"interrupted; the checkpoint of step {self.committed} of {self.steps} is in {where}, to go "
            f"on: unrolled train {settings.task} --out {where}{cell} --resume"
        )

    def _train(self, stop: Stop, units: int) -> None:
        training, position = self.training, self.position
        validates = self.settings.data.validates
        evaluate_every = training.evaluate_every or self.steps
        sample_every = training.sample_every or evaluate_every
        checkpoint_every = training.checkpoint_every or evaluate_every
        if position.step == 0:
            self._show()
        begun = False
        while position.step < self.steps and not position.judge.stops(training):
            rate, norm, stopping = self._update(stop)
            if not begun:
                self._begin()
                begun = True
            for callback in self.callbacks:
                callback.on_step(self._progress(rate, norm, units))
            looks = self._due(evaluate_every)
            improved = looks and validates and self._evaluate()
            if self._due(sample_every):
                self._show()
            if looks or stopping or self._due(checkpoint_every):
                self._commit(publish=improved or position.judge.best is None)
            if stopping:
                raise self.interrupted()
        if not begun:
            self._begin()

    def _due(self, every: int) -> bool:
        return self.position.step % every == 0 or self.position.step == self.steps

    def _update(self, stop: Stop) -> tuple[float, float | None, bool]:
        """Make one update; give its learning rate, the gradients' norm, and whether to stop now."""
        began, training, position = time.perf_counter(), self.training, self.position
        step = position.step
        rate = (training.lr or 0.0) * factor(training, step, self.steps, position.judge.decays)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        if self.task.closed_form:
            value, norm, carry, wishes = self.task.fit(self.model), None, {}, 0.0
        elif isinstance(self.optimizer, HessianFree):
            report = hessian_free_update(self.optimizer, self.task, step, self.rows, training)
            value, norm, rate, carry = report.loss, report.gradient_norm, report.step, {}
            wishes = float(stop.requested)
        elif isinstance(self.whole, WholeStep):
            batch = self.task.batch(step, self.rows)
            value, norm, carry = self.whole.gradients(self.task, batch, self.carry)
            wishes = float(stop.requested)
        else:
            value, carry = self.gradients.compute(step, self.carry)
            value, wishes = self.group.mean(value, float(stop.requested))
            bounds = training.clip_norm or None, training.clip_value, training.clip_each
            norm = clip(self.parameters, *bounds)
        self._check(value, "loss", step + 1)
        if norm is not None:
            self._check(norm, "gradient", step + 1)
        if isinstance(self.whole, WholeStep):
            self.whole.update()
        elif not isinstance(self.optimizer, HessianFree):
            self.optimizer.step()
        self.task.constrain(self.model)
        for w in self.bounded:
            if w.requires_grad:
                max_norm_(w.flatten(1), training.unit_norm or 0.0)
        if self.average:
            self.average.see(step + 1)
        self.carry = {name: state.detach() for name, state in carry.items()}
        past = 0.0 if self.task.closed_form else training.smoothing
        position.smoothed_loss = past * position.smoothed_loss + (1 - past) * value
        position.loss, position.step = value, step + 1
        self.busy += time.perf_counter() - began
        return rate, norm, wishes > 0

    def _check(self, value: float, what: str, step: int) -> None:
        """Stop at a number that is none, before it reaches the weights or a checkpoint."""
        if not math.isfinite(value):
            raise RunError(
                f"the {what} became {value} at step {step}; "
                "start again with a lower --lr or with --clip-norm 1"
            )

    def _progress(self, rate: float, norm: float | None, units: int) -> Step:
        position = self.position
        done = position.step - self.first_step
        passed = time.perf_counter() - self.began
        return Step(
            step=position.step,
            steps=self.steps,
            loss=position.loss,
            smoothed_loss=position.smoothed_loss,
            learning_rate=rate,
            gradient_norm=norm,
            seconds=self.earlier + passed,
            units_per_second=units * done / self.busy,
            seconds_left=passed / done * (self.steps - position.step),
            task=self.task,
        )

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Use the model without leaving a trace in what is trained."""
        devices = [self.device] if self.device.type == "cuda" else []
        self.model.eval()
        averaged = self.average.in_place() if self.average else nullcontext()
        with averaged, torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
        self.model.train()

    def figures(self, split: Split) -> dict[str, float]:
        """Judge the model as it is on a split."""
        with self._looking():
            return self.task.validate(self.model, split)

    def _evaluate(self) -> bool:
        """Judge the weights on the validation split; tell whether they are the best so far."""
        position, criterion = self.position, self.task.criterion
        metrics = self.group.decide(lambda: self.figures("validation"))
        improved = position.judge.see(position.step, metrics, criterion, self.training)
        if self.log:
            event = Evaluation(
                step=position.step,
                steps=self.steps,
                metrics=metrics,
                metric=criterion.metric,
                improved=improved,
                best=math.nan if position.judge.best is None else position.judge.best,
                best_step=position.judge.best_step,
                baselines=self.log.baselines() or self.task.baselines("validation"),
                seconds=self.seconds,
            )
            for callback in self.callbacks:
                callback.on_evaluate(event)
        return improved

    def _show(self) -> None:
        """Show what the model does by now."""
        if not self.log or not self.training.sample_length:
            return
        with self._looking():
            text = self.task.show(self.model, self.position.step)
        event = Sample(self.position.step, self.steps, text, self.seconds)
        for callback in self.callbacks:
            callback.on_sample(event)

    def _commit(self, *, publish: bool) -> None:
        """Write a checkpoint; with `publish` the present weights become those to use."""
        position = self.position
        tensors = capture(self.model, self.optimizer, self.carry, self.device, self.group)
        if self.average:
            tensors |= self.average.capture()
        if publish:
            position.model_step = position.step
        if self.log:
            if not all(bool(w.isfinite().all()) for w in self.parameters):
                self._check(math.nan, "weights", position.step)
            commit = Commit(
                step=position.step,
                model_step=position.model_step,
                metrics_lines=self.log.sync(),
                data_digest=self.task.data_digest,
                settings_digest=digest(self.settings),
                state=asdict(position),
                tensors=tensors,
            )
            kept = weights(self.model) if publish else None
            if kept and self.average:
                kept |= self.average.judged
            self.directory.commit(commit, kept, self.about)
        self.committed = position.step
        event = Checkpoint(position.step, self.steps, self.directory.path)
        for callback in self.callbacks:
            callback.on_checkpoint(event)

    def _kept(self) -> str:
        if self.committed is None:
            return "no checkpoint had been written yet"
        where = f"{self.directory.path} is kept"
        return f"the checkpoint of step {self.committed} in {where}; --resume goes on from it"
