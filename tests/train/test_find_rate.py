"""The rate finder, on a loss whose stable rates are known, and from the command line."""

import json

import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from toy_task import Toy

from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.train import plan
from unrolled.train.find_rate import find_rate, search


class Bowl(Toy):
    """E = 50 (w - n)^2 with n = +-0.5 by turns: descent stays near below a rate of 0.02, and leaves above."""

    def build(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        net = torch.nn.Linear(1, 1, bias=False).double()
        with torch.no_grad():
            net.weight.fill_(2.0)
        return net

    def batch(self, step, rows):
        return 0.5 * (-1) ** step

    def loss(self, model, batch, carry):
        return 50 * (model.weight - batch).square().sum(), {}


def test_the_rate_at_which_a_bowl_is_left_is_found():
    flags = {"source": ("a",), "optimizer": "sgd", "batch_size": 4}
    settings = plan.new_run(Settings.from_flags("toy", flags))
    rates = [1e-4 * 1.05**step for step in range(200)]
    found = search(Bowl(settings), settings, rates)
    assert found.diverged is not None
    assert 0.015 < found.diverged < 0.04
    assert 0.001 < found.best < 0.02
    assert found.suggested == found.best / 10
    w, past = 2.0, 0.0
    for step, (rate, loss) in enumerate(zip(found.rates, found.losses, strict=True)):
        n = 0.5 * (-1) ** step
        assert loss == pytest.approx(50 * (w - n) ** 2, rel=1e-9)
        past = 0.9 * past + 0.1 * loss
        assert found.smoothed[step] == pytest.approx(past / (1 - 0.9 ** (step + 1)), rel=1e-12)
        w -= rate * 100 * (w - n)


def test_it_repeats_and_draws(tmp_path):
    flags = {"hidden": 3, "steps": 30, "dropout": 0.2}
    one = find_rate("toy", "a", picture=tmp_path / "new" / "rates.png", **flags)
    assert one == find_rate("toy", "a", **flags)
    assert (tmp_path / "new" / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert len(one.rates) <= 30


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "rates must rise"),
        ({"steps": 1}, "at least 2 steps"),
        ({"optimizer": "hessian-free"}, "no learning rate to find"),
    ],
)
def test_bad_input(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        find_rate("toy", "a", **flags)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(RunError, match=r"cannot write .*taken: file exists"):
        find_rate("toy", "a", picture=tmp_path / "taken" / "rates.png", hidden=3, steps=4)


def test_from_the_command_line(cli, tmp_path):  # noqa: F811
    options = ("--hidden", "3", "--find-lr", "--steps", "12", "--out", str(tmp_path))
    done = cli("train", "toy", "a", *options)
    assert done.code == 0, done.err
    assert "suggested" in done.out
    assert (tmp_path / "learning-rate.png").exists()
    assert not (tmp_path / "config.json").exists()
    found = json.loads(cli("train", "toy", "a", *options, "--json").out)
    assert found["event"] == "rates"
    assert found["suggested"] == found["best"] / 10
