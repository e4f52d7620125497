"""Learning rates and the judging of progress, beside torch's own schedulers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from unrolled.settings import TrainingSettings
from unrolled.tasks.task import Criterion
from unrolled.train.judge import Judge
from unrolled.train.schedules import factor

LOWER, HIGHER = Criterion("error"), Criterion("accuracy", "higher")


def torch_rates(make, steps):
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def rates(steps, **flags):
    training = TrainingSettings(**flags)
    return [factor(training, step, steps) for step in range(steps)]


def test_constant():
    assert rates(5, schedule="constant") == [1] * 5


def test_step_decay_is_torchs():
    expected = torch_rates(lambda o: optim.lr_scheduler.StepLR(o, 4, 0.3), 19)
    assert rates(19, schedule="step", decay_every=4, decay=0.3) == pytest.approx(expected)


def test_cosine_is_torchs():
    expected = torch_rates(lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 23), 23)
    assert rates(23, schedule="cosine") == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_warm_up_rises_in_a_line_and_the_schedule_begins_after_it(schedule):
    flags = {"schedule": schedule, "decay_every": 2, "decay": 0.5}
    found = rates(12, warmup=4, **flags)
    assert found[:4] == [0.25, 0.5, 0.75, 1]
    assert found[4:] == pytest.approx(rates(8, **flags))


def test_cosine_ends_near_zero_and_the_point_after_the_end_is_zero():
    training = TrainingSettings(schedule="cosine", warmup=10)
    assert factor(training, 100, 100) == pytest.approx(0, abs=1e-15)
    assert 0 < factor(training, 99, 100) < 1e-3
    assert factor(training, 55, 100) == pytest.approx(0.5)


def test_a_warm_up_as_long_as_the_run():
    assert rates(4, schedule="cosine", warmup=4)[-1] == 1
    assert factor(TrainingSettings(schedule="cosine", warmup=4), 4, 4) == 1


def test_plateau_counts_decays():
    training = TrainingSettings(schedule="plateau", decay=0.5)
    assert [factor(training, 9, 10, decays) for decays in range(3)] == [1, 0.5, 0.25]


@given(
    st.lists(st.integers(0, 5), max_size=30),
    st.integers(1, 4),
    st.sampled_from([LOWER, HIGHER]),
)
def test_plateau_decays_when_torchs_does(values, patience, criterion):
    training = TrainingSettings(schedule="plateau", patience=patience, decay=0.5)
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    mode = "min" if criterion.better == "lower" else "max"
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience=patience - 1, threshold=0, threshold_mode="abs", eps=0
    )
    judge = Judge()
    for step, value in enumerate(values):
        judge.see(step, {criterion.metric: float(value)}, criterion, training)
        scheduler.step(value)
        assert factor(training, 0, 1, judge.decays) == optimizer.param_groups[0]["lr"]


def test_the_judge_remembers_the_best_and_stops_when_nothing_follows():
    training = TrainingSettings(stop_after=2)
    judge = Judge()
    seen = []
    for step, error in enumerate([3.0, 2.0, 2.5, 1.0, 1.0, 1.5]):
        seen.append((judge.see(step, {"error": error}, LOWER, training), judge.stops(training)))
    assert [improved for improved, _ in seen] == [True, True, False, True, False, False]
    assert [stops for _, stops in seen] == [False] * 5 + [True]
    assert (judge.best, judge.best_step, judge.best_metrics) == (1.0, 3, {"error": 1.0})
    assert not judge.stops(TrainingSettings())


def test_a_figure_that_is_no_number_is_no_progress():
    judge, training = Judge(), TrainingSettings()
    assert not judge.see(1, {"error": math.nan}, LOWER, training)
    assert judge.see(2, {"error": 5.0}, LOWER, training)
    assert not judge.see(3, {"error": math.nan}, LOWER, training)
    assert judge.best == 5.0
