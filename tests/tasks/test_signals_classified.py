"""Signals and films with labels: what reads them, the baselines beside them, and the task around."""

import json

import numpy as np
import pytest
import torch
from plain_loop import learn

from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.classify import Classify
from unrolled.tasks.signal_baseline import SignalBaseline, resampled
from unrolled.tasks.signal_models import signal_model, statistics

SHAPES = [(3,), (2, 9, 8)]
MODELS = ["rnn", "cnn", "bag", "mlp"]


def flags_of(**flags):
    asked = Settings.from_flags("classify", {"threads": 1, **flags})
    return asked.with_defaults(Classify.defaults_for(asked))


def prepare(**flags):
    return Classify.prepare(flags_of(**flags))


def wave(random, rising, channels=2):
    """A noisy signal of any length whose first channel rises or falls; the second says nothing."""
    steps = random.integers(8, 20)
    slope = np.linspace(-1, 1, steps) * (1 if rising else -1)
    values = random.normal(0, 0.3, (steps, channels)) * [1] + 5
    values[:, 0] += slope
    return values


@pytest.fixture
def waves(tmp_path):
    random = np.random.default_rng(0)
    for n in range(60):
        label = ("up", "down")[n % 2]
        (tmp_path / "waves" / label).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "waves" / label / f"{n}.npy", wave(random, n % 2 == 0))
    return tmp_path / "waves"


@pytest.fixture
def films(tmp_path):
    """A bright column that moves to the left or to the right; no frame alone tells which."""
    random = np.random.default_rng(0)
    for n in range(80):
        steps = random.integers(4, 7)
        film = np.zeros((steps, 7, 9), np.uint8)
        columns = (random.integers(9) + np.arange(steps) * (1 if n % 2 else -1)) % 9
        film[np.arange(steps), :, columns] = 255
        label = ("left", "right")[n % 2]
        (tmp_path / "films" / label).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "films" / label / f"{n}.npy", film)
    return tmp_path / "films"


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("over_time", ["last,mean", "max,attention"])
def test_what_stands_beside_a_signal_makes_no_difference(shape, model, over_time):
    flags = {"model": model, "hidden": 5, "filters": 4, "filter_widths": (3,), "layers": 2}
    torch.manual_seed(0)
    settings = flags_of(**flags, over_time=over_time, dtype="float64", bidirectional=True)
    net = signal_model(shape, 3, settings).eval()
    rows = [torch.rand(steps, *shape, dtype=torch.float64) for steps in (1, 5, 9)]
    x = torch.nn.utils.rnn.pad_sequence(rows)
    together = net(x, torch.tensor([1, 5, 9]))
    assert together.shape == (3, 3)
    for row, values in enumerate(rows):
        alone = net(values[:, None], torch.tensor([len(values)]))
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_read_outs_by_hand(bidirectional):
    torch.manual_seed(0)
    flags = {"bidirectional": bidirectional, "over_time": "max,last,attention,mean", "hidden": 4}
    net = signal_model((3,), 2, flags_of(model="rnn", dtype="float64", **flags))
    x = torch.randn(6, 1, 3, dtype=torch.float64)
    y = net.net(x)[0][:, 0]
    last = y[-1].clone()
    if bidirectional:
        last[4:] = y[0, 4:]
    score = net.summary.attention.score
    a = (score.y(y).tanh() @ score.v.weight[0]).softmax(0)
    seen = torch.cat([y.max(0).values, last, a @ y, y.mean(0)])
    torch.testing.assert_close(net(x, torch.tensor([6]))[0], net.readout(seen))


def test_statistics_by_hand():
    x = torch.tensor([[1.0, 2.0], [4.0, 0.0], [1.0, 1.0], [9.0, 9.0]])[:, None]
    found = statistics(x, torch.tensor([3]))[0]
    rows = x[:3, 0].numpy()
    by_hand = [rows.mean(0), rows.std(0), rows.max(0), rows.min(0), [3.0, 1.5], [np.log(3)]]
    np.testing.assert_allclose(found, np.concatenate(by_hand), rtol=1e-6)
    assert torch.isfinite(statistics(x[:1])).all()


def test_tied_weights_are_refused():
    with pytest.raises(InputError, match="--tied"):
        signal_model((1,), 2, flags_of(tied=True))


# ---------------------------------------------------------------- baselines


def test_baselines_by_hand():
    random = np.random.default_rng(0)
    items = [random.normal(label, 0.1, (random.integers(3, 6), 2)) for label in (0, 2, 4) * 4]
    labels = np.array([0, 1, 3] * 4)
    fitted = SignalBaseline.fit(items, labels, 5, np.zeros(2), np.ones(2))
    assert (fitted.bias[[2, 4]] == -np.inf).all()
    again = SignalBaseline.from_arrays(5, (2,), fitted.to_arrays())
    for one in (fitted, again):
        told = one.predict([np.full((7, 2), 4.1), np.full((2, 2), 1.9)])
        assert told["majority"].tolist() == [0, 0]
        assert told["summary_statistics"].tolist() == told["nearest_neighbour"].tolist() == [3, 1]


def test_signals_are_stretched_on_straight_lines():
    np.testing.assert_allclose(resampled(np.array([[0.0], [2], [0]]), 5)[:, 0], [0, 1, 2, 1, 0])
    np.testing.assert_allclose(resampled(np.array([[7.0]]), 3)[:, 0], [7, 7, 7])


# ---------------------------------------------------------------- the task


def test_channels_are_scaled_as_the_training_part_is(waves):
    task = prepare(source=(str(waves),))
    training = np.concatenate(task.rows("training").items)
    np.testing.assert_allclose(task.kind.mean, training.mean(0), rtol=1e-5)
    np.testing.assert_allclose(task.kind.deviation, training.std(0), rtol=1e-4)
    scaled = np.concatenate(task.rows("training").inputs)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-4)


def test_waves_from_end_to_end(waves):
    task = prepare(source=(str(waves),), hidden=16, split="0.6,0.2,0.2", lr=0.01)
    model = learn(task, 40)
    found = task.evaluate(model, [str(waves)])
    assert json.loads(json.dumps(found)) == found
    assert found["accuracy"] > 0.9
    assert found["baselines"]["majority"]["accuracy"] == 0.5
    assert set(found["baselines"]) == {"majority", "summary_statistics", "nearest_neighbour"}
    (one,) = task.predict(model, [str(waves / "up" / "0.npy")])
    assert one["signal"] == str(waves / "up" / "0.npy")
    shown = task.show(model, 0).splitlines()
    assert len(shown) == 4
    assert all(set(line[:50]) <= set("▁▂▃▄▅▆▇█") for line in shown)
    kept = task.artefacts()
    again = Classify.restore(
        task.settings, Artefacts(json.loads(json.dumps(kept.vocabulary)), kept.baseline)
    )
    weights = again.build()
    weights.load_state_dict(model.state_dict())
    assert again.evaluate(weights, [str(waves)]) == found


def test_films_are_told_apart_by_their_motion(films):
    task = prepare(source=(str(films),), cell="gru", hidden=32, split="0.7,0.1,0.2")
    model = learn(task, 50)
    assert task.validate(model, "test")["accuracy"] > 0.9
    assert task.baselines("test")["majority"]["accuracy"] < 0.7
    assert "@" in task.show(model, 0)
    (one,) = task.predict(model, [str(films / "left" / "0.npy")])
    assert one["label"] == "left"


def test_signals_of_other_channels(waves, tmp_path):
    task = prepare(source=(str(waves),))
    (tmp_path / "x.csv").write_text("1,2,3\n4,5,6\n")
    with pytest.raises(InputError, match=r"x\.csv has 3 channels, but .* trained on 2 channels"):
        list(task.predict(task.build(), [str(tmp_path / "x.csv")]))
    (tmp_path / "x.csv").write_text("id,label,a\n1,up,2\n")
    with pytest.raises(InputError, match="1 channel, but"):
        task.evaluate(task.build(), [str(tmp_path / "x.csv")])
    with pytest.raises(InputError, match="--merge is for texts, not for signals"):
        prepare(source=(str(waves),), merge="a=up")


def test_the_digest_is_of_the_values(waves):
    digest = prepare(source=(str(waves),)).data_digest
    assert prepare(source=(str(waves),)).data_digest == digest
    values = np.load(waves / "up" / "0.npy")
    values[0, 0] += 1
    np.save(waves / "up" / "0.npy", values)
    assert prepare(source=(str(waves),)).data_digest != digest
