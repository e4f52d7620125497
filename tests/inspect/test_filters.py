"""Seen from inside: statistics by NumPy, deconvolution by its steps, the page and the command."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture
from torch import nn
from torch.nn import functional

import unrolled as ur
from unrolled.errors import InputError
from unrolled.inspect.filters import filters, first_filters
from unrolled.inspect.mosaic import mosaic, scaled
from unrolled.inspect.units import study, watched_layers
from unrolled.inspect.visualise import ascend, deconvolve, occlude
from unrolled.layers import Convolution2d, MaxPool, Residual, max_pool_switches, unpool


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        Convolution2d(1, 4, 3), nn.ReLU(), MaxPool(2), Convolution2d(4, 5, 2), nn.ReLU()
    )


def pictures(n=6, size=10, channels=1):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- layers and their units


def test_layers_are_seen_behind_their_activation():
    model = nn.Sequential(*net(), nn.Flatten(), nn.Linear(45, 3), nn.Tanh(), nn.Linear(3, 2))
    found = watched_layers(model, pictures(1))
    assert [layer.name for layer in found] == ["0", "3", "6", "8"]
    assert [type(layer.seen).__name__ for layer in found] == ["ReLU", "ReLU", "Tanh", "Linear"]
    assert [layer.shape for layer in found] == [(4, 8, 8), (5, 3, 3), (3,), (2,)]


def test_an_activation_that_runs_twice_is_not_asked():
    model = Residual(1, 3)
    names = [
        (layer.name, type(layer.seen).__name__) for layer in watched_layers(model, pictures(1))
    ]
    assert names == [
        ("first", "Convolution2d"),
        ("second", "Convolution2d"),
        ("shortcut.0", "Convolution2d"),
    ]


def test_statistics_are_numpys():
    model, some = net(), pictures(300)
    first, second = study(model, some, watched_layers(model, some[:1]))
    with torch.no_grad():
        maps = model[1](model[0](some))
    every = maps.transpose(0, 1).flatten(1).double().numpy()
    np.testing.assert_allclose(first.mean, every.mean(1), rtol=1e-5)
    np.testing.assert_allclose(first.variance, every.var(1), rtol=1e-4)
    np.testing.assert_allclose(first.correlation, np.corrcoef(every), atol=1e-5)
    np.testing.assert_allclose(first.peaks, maps.amax((2, 3)))
    assert first.strongest(2, 3).tolist() == np.argsort(-first.peaks[:, 2])[:3].tolist()
    assert second.peaks.shape == (300, 5)


def test_units_of_no_use_are_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Sigmoid())
    with torch.no_grad():
        weight, bias = model[1].weight, model[1].bias
        bias.zero_()
        weight[1] = weight[0]  # the same as another
        weight[2] = -weight[0]  # its opposite
        weight[3], bias[3] = 0, 0.3  # always the same
        bias[4] = 50  # always one
        weight[5] *= 3
    (found,) = study(model, pictures(80, 4), watched_layers(model, pictures(1, 4)))
    assert found.dead == (3,)
    assert found.saturated == (4,)
    assert [(i, j, round(c, 3)) for i, j, c in found.duplicates] == [
        (0, 1, 1),
        (0, 2, -1),
        (1, 2, -1),
    ]


def test_a_unit_that_never_fires_is_dead():
    model = net()
    with torch.no_grad():
        model[0].bias[2] = -100
    first, _ = study(model, pictures(), watched_layers(model, pictures(1)))
    assert 2 in first.dead
    assert not first.saturated
    assert not first.correlation[2].any()


# ---------------------------------------------------------------- what excites a unit


def test_deconvolution_is_its_steps_by_hand():
    """Unpool by switches, rectify, filter transposed (Zeiler & Fergus 2013, figure 1)."""
    model, some = net(), pictures()
    low, high = model[0], model[3]
    with torch.no_grad():
        y = functional.relu(low(some))
        pooled, switches = max_pool_switches(y, 2)
        top = functional.relu(high(pooled))
        unit = int(top.amax((0, 2, 3)).argmax())
        places = top[:, unit].flatten(1).argmax(1)
        signal = torch.zeros_like(top)
        rows = torch.arange(len(some))
        signal[:, unit].flatten(1)[rows, places] = top[:, unit].flatten(1)[rows, places]
        signal = functional.conv_transpose2d(functional.relu(signal), high.weight)
        signal = unpool(signal, switches, y.shape[2:])
        signal = functional.conv_transpose2d(functional.relu(signal), low.weight)
    layer = watched_layers(model, some[:1])[1]
    found = deconvolve(model, layer, some, unit, places)
    assert bool(found.any())
    torch.testing.assert_close(found, signal)


def test_deconvolution_of_a_unit_without_a_map():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2))
    some = pictures(2, 4)
    layer = watched_layers(model, some[:1])[1]
    found = deconvolve(model, layer, some, 1, torch.zeros(2, dtype=torch.int64))
    signal = functional.relu(model(some)[:, 1:].detach() * model[3].weight[1]) @ model[1].weight
    torch.testing.assert_close(found.flatten(1), signal.detach())


def test_parameters_keep_no_gradients():
    model, some = net().train(), pictures()
    layer = watched_layers(model, some[:1])[1]
    deconvolve(model, layer, some, 0, torch.zeros(len(some), dtype=torch.int64))
    ascend(model, layer, [0, 1], (1, 10, 10), steps=2)
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_climbing_finds_the_filter():
    """The picture that excites a filter most on white and black is where it is positive."""
    model = nn.Sequential(Convolution2d(1, 3, 5))
    layer = watched_layers(model, pictures(1, 5))[0]
    found = ascend(model, layer, [0, 2], (1, 5, 5), steps=200, rate=0.2)
    for picture, unit in zip(found, (0, 2), strict=True):
        weight = model[0].weight[unit].detach()
        large = weight.abs() > 0.3 * weight.abs().max()
        assert torch.equal(picture[large] > 0.5, weight[large] > 0)
    again = ascend(model, layer, [0, 2], (1, 5, 5), steps=200, rate=0.2)
    assert torch.equal(found, again)


def test_climbing_excites_more_than_data():
    model, some = net(), pictures()
    layer = watched_layers(model, some[:1])[0]
    found = ascend(model, layer, [0, 1, 2, 3], (1, 10, 10))
    with torch.no_grad():
        centre = model[0](found)[range(4), range(4), 4, 4]
        data = model[0](some)[:, :, 4, 4].amax(0)
    assert bool((centre > data).all())


def test_occlusion_finds_what_counts():
    class Corner(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Linear(1, 1)
            nn.init.ones_(self.read.weight)

        def forward(self, x):
            return self.read(x[:, 0, :2, :2].mean((1, 2))[:, None])

    model, picture = Corner(), torch.zeros(1, 8, 8)
    picture[0, :2, :2] = 1
    falls = occlude(model, watched_layers(model, picture[None])[0], picture, 0, patch=2)
    assert falls.shape == (8, 8)
    assert float(falls[0, 0]) == pytest.approx(1 - picture.mean().item())
    assert not falls[4:].any()
    with pytest.raises(InputError, match="patch of 9"):
        occlude(model, watched_layers(model, picture[None])[0], picture, 0, patch=9)


# ---------------------------------------------------------------- drawing


def test_scaling():
    some = np.array([[1.0, 3.0], [0.0, 0.0], [-2.0, 1.0]])
    np.testing.assert_allclose(scaled(some, signed=False), [[0, 1], [0, 0], [0, 1]])
    np.testing.assert_allclose(scaled(some, signed=True), [[2 / 3, 1], [0.5, 0.5], [0, 0.75]])


def test_a_mosaic_has_lines_between_its_pictures():
    found = mosaic(np.arange(3)[:, None, None, None] * np.ones((1, 1, 2, 2)), 2)
    gap = np.nan
    np.testing.assert_array_equal(
        found,
        [[0, 0, gap, 1, 1]] * 2 + [[gap] * 5] + [[2, 2, gap, gap, gap]] * 2,
    )


def test_first_filters_of_any_first_layer():
    for model, x, shape in [
        (nn.Sequential(Convolution2d(3, 4, 5)), pictures(1, 8, 3), (4, 3, 5, 5)),
        (nn.Sequential(Convolution2d(2, 4, 5)), pictures(1, 8, 2), (8, 1, 5, 5)),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), pictures(1, 8), (7, 1, 8, 8)),
    ]:
        found = first_filters(watched_layers(model, x)[0], tuple(x.shape[1:]))
        assert found is not None
        assert found.shape == shape


def test_the_page_needs_no_other_file(tmp_path):
    model = nn.Sequential(*net(), nn.Flatten(), nn.Linear(45, 3))
    found = filters(model, pictures(20), tmp_path / "seen", units=2)
    page = (tmp_path / "seen" / "filters.html").read_text("utf-8")
    names = {path.name for path in (tmp_path / "seen").iterdir()}
    assert names == {path.name for path in found.files}
    assert {"first-filters.png", "01-maps.png", "03-climbed.png", "02-excites.png"} <= names
    assert "03-maps.png" not in names  # it has none
    inside = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(inside) == len(names) - 1
    assert all(base64.b64decode(picture)[1:4] == b"PNG" for picture in inside)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert str(found).count("units") == 3
    again = filters(model, pictures(20), tmp_path / "again", units=2)  # to the last bit
    for one, other in zip(found.files, again.files, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("model", "some", "words"),
    [
        (net(), torch.zeros(0, 1, 8, 8), "at least one"),
        (net(), torch.zeros(1, 8, 8), "(n, C, H, W)"),
        (net(), torch.zeros(1, 2, 8, 8), "channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), torch.zeros(1, 1, 8, 8), "does not take"),
        (nn.Sequential(nn.ReLU()), torch.zeros(1, 1, 8, 8), "no layer whose units"),
    ],
)
def test_refusals(model, some, words, tmp_path):
    with pytest.raises(InputError, match=re.escape(words)):
        filters(model, some, tmp_path / "seen")
    assert not (tmp_path / "seen").exists()


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize("what", ["reconstruct", "few-labels", "classify"])
def test_a_trained_model_from_the_command_line(what, cli, tmp_path):  # noqa: F811
    own = {"labelled": 50} if what == "few-labels" else {}
    ur.train(what, "digits", out=tmp_path / "model", steps=3, sample_length=0, **own)
    given = ["inspect", tmp_path / "model", "digits", "filters"]
    done = cli(*given, "--pictures", 30, "--units", 1, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["pictures"] == 30
    assert found["layers"][0]["units"] == len(found["layers"][0]["variance"])
    assert (tmp_path / "model" / "filters" / "filters.html").exists()
    assert cli(*given[:2], "nowhere").code == 2


def test_models_that_look_at_no_pictures(cli, tmp_path):  # noqa: F811
    (tmp_path / "text.txt").write_text("the quick brown fox " * 50, "utf-8")
    tiny = {"steps": 2, "window": 8, "batch_size": 2, "sample_length": 0}
    ur.train("generate", str(tmp_path / "text.txt"), out=tmp_path / "model", **tiny)
    done = cli("inspect", tmp_path / "model", "digits")
    assert done.code == 2
    assert "generate" in done.sentence
    ur.train("reconstruct", out=tmp_path / "rows", row_by_row=True, steps=2, sample_length=0)
    assert "reconstruct" in cli("inspect", tmp_path / "rows", "digits").sentence
