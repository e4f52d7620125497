"""Pictures with labels: what varies them, the models that look at them, and the task around."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from unrolled.errors import InputError
from unrolled.layers.lenet import LeNet5
from unrolled.settings import PictureSettings, Settings
from unrolled.tasks import Artefacts
from unrolled.tasks.augment import augment, augments
from unrolled.tasks.classify import Classify
from unrolled.tasks.picture_models import PictureRNN, picture_model


def flags_of(**flags):
    asked = Settings.from_flags("classify", {"threads": 1, **flags})
    return asked.with_defaults(Classify.defaults_for(asked))


def prepare(**flags):
    return Classify.prepare(flags_of(**flags))


def learn(task, steps):
    model = task.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=task.settings.training.lr)
    for step in range(steps):
        batch = task.batch(step, slice(0, task.settings.training.batch_size))
        loss, _ = task.loss(model, batch, {})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def draw(place, name, value, size=(9, 7)):
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([value]).integers(0, 60, size[::-1])
    Image.fromarray((noise + value).astype(np.uint8)).save(place / name)


@pytest.fixture
def shades(tmp_path):
    """Dark and bright pictures."""
    for i in range(20):
        draw(tmp_path / "shades", f"dark/{i}.png", i)
        draw(tmp_path / "shades", f"bright/{i}.png", 150 + i)
    return tmp_path / "shades"


# ---------------------------------------------------------------- variation


def picture(*shape):
    torch.manual_seed(0)
    return torch.rand(*shape)


def test_nothing_asked_for_changes_nothing():
    x = picture(3, 2, 5, 6)
    assert not augments(PictureSettings())
    torch.testing.assert_close(augment(x, PictureSettings(), 0, 0, 0), x)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (6, 9), (9, 6)])
def test_each_row_has_its_own_variation_whatever_stands_beside(height, width):
    x = picture(6, 1, height, width)
    settings = PictureSettings(shift=2, rotate=20, scale=0.2, noise=0.1)
    whole = augment(x, settings, 5, 3, 0)
    torch.testing.assert_close(augment(x[4:], settings, 5, 3, 4), whole[4:], rtol=0, atol=0)
    torch.testing.assert_close(augment(x, settings, 5, 3, 0), whole, rtol=0, atol=0)
    alike = augment(x[:1].expand(6, -1, -1, -1), settings, 5, 3, 0)
    assert not torch.allclose(alike[0], alike[1])
    for other in ((6, 3, 0), (5, 4, 0)):
        assert not torch.allclose(augment(x, settings, *other), whole)


class Fixed:
    """Draws the same numbers whatever is asked."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def uniform(self, low, high, count):
        return np.array(self.numbers)


@pytest.fixture
def drawing(monkeypatch):
    def set_(**draws):
        numbers = (draws.get(name, 0.0) for name in ("across", "down", "turn", "wide", "high"))
        fixed = Fixed(*numbers)
        monkeypatch.setattr("unrolled.tasks.augment.generator", lambda *key: fixed)

    return set_


@pytest.mark.parametrize(("across", "down"), [(1, 0), (0, 1), (-1, 1)])
def test_a_shift_by_whole_pixels(drawing, across, down):
    drawing(across=across, down=down)
    x = picture(1, 1, 6, 8)
    y = augment(x, PictureSettings(shift=2), 0, 0, 0)
    moved = torch.roll(x, (2 * down, 2 * across), (2, 3))[..., 2:-2, 2:-2]
    torch.testing.assert_close(y[..., 2:-2, 2:-2], moved, rtol=0, atol=1e-5)
    if across == 1:
        assert y[..., :2].abs().max() < 1e-5  # black comes in from outside


@pytest.mark.parametrize("shape", [(6, 6), (5, 9)])
def test_a_half_and_a_quarter_turn(drawing, shape):
    drawing(turn=1)
    x = picture(1, 2, *shape)
    torch.testing.assert_close(
        augment(x, PictureSettings(rotate=180), 0, 0, 0), x.flip(2, 3), rtol=0, atol=1e-5
    )
    quarter = augment(x, PictureSettings(rotate=90), 0, 0, 0)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    middle = (..., slice(top, top + side), slice(left, left + side))
    turned = [torch.rot90(x[middle], n, (2, 3)) for n in (1, -1)]
    assert any(torch.allclose(quarter[middle], one, atol=1e-4) for one in turned)


def test_scaling_leaves_the_middle_and_spreads_the_rest(drawing):
    drawing(wide=1, high=1)
    x = torch.zeros(1, 1, 9, 9)
    x[..., 3:6, 3:6] = 1
    y = augment(x, PictureSettings(scale=0.5), 0, 0, 0)
    assert y[0, 0, 4, 4] == pytest.approx(1)
    assert y.sum() == pytest.approx(1.5**2 * 9, rel=0.1)


def test_noise_has_its_deviation():
    x = torch.zeros(4, 1, 50, 50)
    assert augment(x, PictureSettings(noise=0.1), 0, 0, 0).std() == pytest.approx(0.1, rel=0.05)


def test_training_is_varied_and_judging_is_not():
    plain, varied = prepare(split="0.5,0.5,0"), prepare(split="0.5,0.5,0", shift=2)
    (x,), (y,) = (task.batch(0, slice(0, 8)).inputs for task in (plain, varied))
    assert not np.allclose(x, y)
    (again,) = varied.batch(0, slice(3, 8)).inputs
    np.testing.assert_array_equal(again, y[3:])
    some = plain.rows("validation").inputs[:4]
    one, other = (task.kind.batch(some, None)[0] for task in (plain, varied))
    np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 40, 70), (1, 5, 9)])
@pytest.mark.parametrize("flags", [{}, {"model": "mlp"}, {"model": "rnn"}, {"scan": "pixels"}])
def test_every_model_takes_every_shape(shape, flags):
    if "scan" in flags:
        flags = {**flags, "model": "rnn", "hidden": 4}
    model = picture_model(shape, 4, flags_of(**flags))
    assert model(torch.rand(2, *shape)).shape == (2, 4)


def test_pictures_of_mnist_go_through_lenet_as_it_is():
    model = picture_model((1, 28, 28), 10, flags_of()).eval()
    torch.manual_seed(0)
    lenet = LeNet5(modern=True)
    lenet.load_state_dict(dict(zip(lenet.state_dict(), model.state_dict().values(), strict=True)))
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model(x), lenet(x))
    assert sum(p.numel() for p in model.parameters()) == 61_706


@pytest.mark.parametrize(("scan", "steps", "width"), [("rows", 4, 10), ("pixels", 20, 2)])
def test_a_picture_laid_out_in_time(scan, steps, width):
    model = PictureRNN((2, 4, 5), 3, flags_of(hidden=4, scan=scan))
    x = torch.arange(2 * 4 * 5.0).view(1, 2, 4, 5)
    y = model.steps(x)
    assert y.shape == (steps, 1, width)
    first = x[0, :, 0].T.flatten() if scan == "rows" else x[0, :, 0, 0]
    torch.testing.assert_close(y[0, 0], first)


@pytest.mark.parametrize(
    ("flags", "words"), [({"model": "bag"}, "bag"), ({"tied": True}, "--tied")]
)
def test_what_pictures_have_not(flags, words):
    with pytest.raises(InputError, match=words):
        picture_model((1, 8, 8), 10, flags_of(**flags))


# ---------------------------------------------------------------- the task


def test_learns_the_digits_and_beats_the_baselines():
    task = prepare(split="0.8,0.1,0.1", shift=0.5, rotate=5)
    assert task.settings.classifier.model == "cnn"
    model = learn(task, 120)
    found = task.validate(model, "test")
    beside = task.baselines("test")
    assert found["accuracy"] > 0.9
    assert found["accuracy"] > beside["nearest_mean"]["accuracy"] > 0.8
    assert beside["majority"]["accuracy"] < 0.2
    assert task.initial_loss == math.log(10)
    assert task.throughput() == (64, "pictures")


def test_a_users_folder_from_end_to_end(shades):
    task = prepare(source=(str(shades),), model="mlp", split="0.5,0.25,0.25", size=8)
    model = learn(task, 60)
    assert task.labels == ["bright", "dark"]
    found = task.evaluate(model, [str(shades)])
    assert json.loads(json.dumps(found)) == found
    assert found["accuracy"] == found["f1_macro"] == 1
    assert (found["examples"], found["skipped"]) == (40, 0)
    assert found["confusion"]["dark"] == {"bright": 0, "dark": 20}
    (one,) = task.predict(model, [str(shades / "dark" / "3.png")])
    assert (one["picture"], one["label"]) == (str(shades / "dark" / "3.png"), "dark")
    shown = task.show(model, 0).splitlines()
    assert len(shown) == 8 + 3
    assert all("right" in line for line in shown[-3:])
    kept = task.artefacts()
    again = Classify.restore(
        task.settings, Artefacts(json.loads(json.dumps(kept.vocabulary)), kept.baseline)
    )
    weights = again.build()
    weights.load_state_dict(model.state_dict())
    assert again.evaluate(weights, [str(shades)]) == found


def test_a_file_that_is_no_picture_is_named(shades):
    (shades / "dark" / "broken.png").write_text("no")
    with pytest.raises(InputError, match=r"broken\.png.*--unreadable skip"):
        prepare(source=(str(shades),))
    task = prepare(source=(str(shades),), unreadable="skip")
    found = task.evaluate(task.build(), [str(shades)])
    assert (found["examples"], found["skipped"]) == (40, 1)


def test_pictures_of_other_sizes(shades):
    draw(shades, "dark/large.png", 3, (12, 12))
    with pytest.raises(InputError, match=r"12 x 12.*--size 32.*AdaptivePool"):
        prepare(source=(str(shades),))
    (shades / "dark" / "large.png").rename(shades.parent / "large.png")
    task = prepare(source=(str(shades),))
    with pytest.raises(InputError, match=r"large\.png is 12 x 12 grey, but .* 9 x 7 grey"):
        list(task.predict(task.build(), [str(shades.parent / "large.png")]))


def test_validation_and_test_of_their_own(shades, tmp_path):
    for i in range(3):
        draw(tmp_path / "other", f"dark/{i}.png", i)
        draw(tmp_path / "other", f"bright/{i}.png", 200)
    other = str(tmp_path / "other")
    task = prepare(source=(str(shades),), test=(other,), validation=(other,), split="0.9,0.1,0")
    sizes = [len(task.rows(split)) for split in ("training", "validation", "test")]
    assert sizes == [40, 6, 6]
    task = prepare(source=(str(shades),), test=(other,), split="0.6,0.2,0.2")
    sizes = [len(task.rows(split)) for split in ("training", "validation", "test")]
    assert sizes == [30, 10, 6]


def test_folds_are_disjoint_and_whole(shades):
    where = []
    for fold in range(4):
        task = prepare(source=(str(shades),), folds=4, fold=fold, split="0.9,0.1,0")
        sizes = [len(task.rows(split)) for split in ("training", "validation", "test")]
        assert sizes == [27, 3, 10]
        where += [one.tobytes() for one in task.rows("test").items]
    assert len(set(where)) == 40
    with pytest.raises(InputError, match="fold 4 must be below folds 4"):
        prepare(source=(str(shades),), folds=4, fold=4)


def test_phrases_and_merged_labels(tmp_path):
    lines = [f"({n % 5} (2 word{n}) ({n % 5} end{n}))" for n in range(50)]
    (tmp_path / "trees.txt").write_text("\n".join(lines))
    flags = {"source": (str(tmp_path / "trees.txt"),), "symbols": "word", "split": "0.6,0.2,0.2"}
    whole = prepare(**flags)
    phrases = prepare(**flags, phrases=True)
    assert (len(whole.rows("training")), len(phrases.rows("training"))) == (30, 90)
    assert phrases.rows("test").items == whole.rows("test").items
    merged = prepare(**flags, phrases=True, merge="bad=0,1; good=3,4")
    assert merged.labels == ["bad", "good"]
    # of 40 trees that are not neutral 24 train, by two phrases each; of those left out nothing is more
    assert len(merged.rows("training")) == 48
    lines = ["(2 (0 gone) (2 by))", *lines]
    (tmp_path / "trees.txt").write_text("\n".join(lines))
    merged = prepare(**flags, phrases=True, merge="bad=0,1; good=3,4")
    assert len(merged.rows("training")) == 49
    assert "gone" in merged.rows("training").items
    with pytest.raises(InputError, match="--merge names none of the labels"):
        prepare(**flags, merge="bad=7")
    (tmp_path / "t.tsv").write_text(
        "text\tlabel\n" + "".join(f"a{n}\t{n % 2}\n" for n in range(40))
    )
    with pytest.raises(InputError, match="--phrases takes trees"):
        prepare(source=(str(tmp_path / "t.tsv"),), phrases=True)
