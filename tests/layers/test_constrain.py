"""Weights in bounds, and weights by length and direction."""

import pytest
import torch
from torch import nn

import unrolled as ur
from unrolled.cells import LSTM
from unrolled.engine import native
from unrolled.layers.constrain import max_norm_, normalise_weights
from unrolled.train.run import train


def test_norms_above_the_bound_are_scaled_to_it():
    w = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(
        max_norm_(w, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    )


@pytest.mark.parametrize(
    "engine",
    [
        "reference",
        pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason="no core")),
    ],
)
def test_normalised_weights_begin_as_they_were_and_learn_apart(engine):
    torch.manual_seed(0)
    net = ur.Recurrent(LSTM(3, 4), num_layers=2).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    with ur.engine(engine):
        plain = net(x)[0]
        slope = torch.autograd.grad(plain.square().sum(), net.cells[0].h.weight)[0]  # type: ignore[union-attr]
        normalise_weights(net)
        y = net(x)[0]
        torch.testing.assert_close(y, plain)
        y.square().sum().backward()
    g, v = net.cells[0].h.parametrizations.weight.parameters()  # type: ignore[union-attr]
    # eq. 3: the gradient of g is that of w along v; that of v is what is left across it
    along = (slope * v).sum(1, keepdim=True) / v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(g.grad, along)
    across = g / v.norm(dim=1, keepdim=True) * (slope - along * v / v.norm(dim=1, keepdim=True))
    torch.testing.assert_close(v.grad, across)


def test_what_has_no_linear_layer_is_refused():
    with pytest.raises(ValueError, match="Tanh has no linear layer"):
        normalise_weights(nn.Tanh())


def test_a_model_is_trained_and_read_again(tmp_path):
    (tmp_path / "text.txt").write_text("pack my box with five dozen liquor jugs. " * 20)
    few = {"hidden": 5, "steps": 4, "batch_size": 2, "window": 6, "sample_length": 0}
    trained = train(
        "generate", str(tmp_path / "text.txt"), out=tmp_path / "run", weight_norm=True, **few
    )
    assert any("original1" in name for name, _ in trained.model.named_parameters())
    again = ur.load(tmp_path / "run").model.state_dict()
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, again[name])
