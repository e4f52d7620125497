"""Autoencoders: counts and penalties by hand, contraction by autograd's Jacobian, noise, layers alone."""

import math

import pytest
import torch
from torch import nn

from unrolled.errors import InputError
from unrolled.settings import AutoencoderSettings, ModelSettings
from unrolled.tasks.autoencoder import Autoencoder, SequenceAutoencoder, corrupted, divergence


def made(inputs=6, **settings):
    torch.manual_seed(0)
    return Autoencoder(inputs, AutoencoderSettings(**settings)).double()


def rows(count=5, inputs=6):
    return torch.rand(
        count, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def penalty(model, x):
    return model.train()(x).penalty.item()


def test_the_deep_one_has_2_833_000_weights():
    """Hinton & Salakhutdinov 2006: 784-1000-500-250-30 and back."""
    settings = AutoencoderSettings(widths=(1000, 500, 250, 30), activation="sigmoid")
    model = Autoencoder(784, settings)
    assert sum(w.numel() for pair in model.pairs for w in pair.weights) == 2_833_000
    biases = 2 * (1000 + 500 + 250) + 30 + 784
    assert sum(p.numel() for p in model.parameters()) == 2_833_000 + biases
    tied = Autoencoder(784, settings.model_copy(update={"tied_decoder": True}))
    assert sum(p.numel() for p in tied.parameters()) == 2_833_000 // 2 + biases


def test_it_is_the_equations():
    model = made(widths=(4, 2), activation="tanh", output="linear")
    below, above = model.pairs
    x = rows()
    h = torch.tanh(x @ below.weight.T + below.bias)
    code = h @ above.weight.T + above.bias
    back = torch.tanh(code @ above.back.T + above.back_bias) @ below.back.T + below.back_bias
    torch.testing.assert_close(model.encode(x), code)
    torch.testing.assert_close(model(x).reconstruction, back)
    torch.testing.assert_close(model.decode(code), back)
    torch.testing.assert_close(model(x).squared_error(), ((x - back) ** 2).sum(1))


def test_cross_entropy_is_binary():
    passed = made(widths=(3,), error="cross-entropy")(rows())
    p, x = passed.reconstruction, passed.wanted
    torch.testing.assert_close(
        passed.cross_entropy(), -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)
    )


def test_tied_weights_get_the_gradients_of_both_ways():
    untied, tied = made(widths=(3,)), made(widths=(3,), tied_decoder=True)
    with torch.no_grad():
        untied.pairs[0].back.copy_(untied.pairs[0].weight.T)
        tied.load_state_dict({k: v for k, v in untied.state_dict().items() if "back" not in k[-5:]})
    for model in (untied, tied):
        model(rows()).squared_error().sum().backward()
    there, back = untied.pairs[0].weight.grad, untied.pairs[0].back.grad
    torch.testing.assert_close(tied.pairs[0].weight.grad, there + back.T)


def test_sparseness_by_hand():
    x = rows()
    model = made(widths=(4, 2), activation="tanh", sparse_units=0.5)
    below, above = model.pairs
    h = below.activation(below.sums(x))
    expected = 0.5 * (h.abs().sum() + above.sums(h).abs().sum()) / len(x)
    assert penalty(model, x) == pytest.approx(expected.item())
    model = made(widths=(4,), sparse_weights=0.1)
    expected = 0.1 * sum(w.abs().sum().item() for w in model.pairs[0].weights)
    assert penalty(model, x) == pytest.approx(expected)
    assert penalty(model.eval(), x) == pytest.approx(expected)  # train() again
    assert model.eval()(x).penalty.item() == 0


def test_divergence():
    assert float(divergence(torch.tensor([0.05, 0.05]), 0.05)) == pytest.approx(0, abs=1e-6)
    by_hand = 0.05 * math.log(0.05 / 0.2) + 0.95 * math.log(0.95 / 0.8)
    assert float(divergence(torch.tensor([0.2]), 0.05)) == pytest.approx(by_hand)
    model = made(widths=(4,), code="sigmoid", kl=3.0, kl_target=0.2)
    active = model.encode(rows()).mean(0)
    assert penalty(model, rows()) == pytest.approx(3 * divergence(active, 0.2).item())


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "identity", "prelu"])
def test_contraction_is_the_jacobian(activation):
    model = made(widths=(4,), code=activation, contraction=2.0)
    jacobians = [torch.autograd.functional.jacobian(model.encode, x[None]) for x in rows()]
    expected = 2 * sum(float(j.square().sum()) for j in jacobians) / len(jacobians)
    assert penalty(model, rows()) == pytest.approx(expected)


def test_the_gradient_of_everything_together():
    model = made(
        widths=(4, 3),
        activation="sigmoid",
        code="sigmoid",
        tied_decoder=True,
        sparse_units=0.1,
        kl=0.2,
        contraction=0.3,
    ).train()

    def loss(*weights):
        passed = torch.func.functional_call(
            model, dict(zip(names, weights, strict=True)), (rows(),)
        )
        return passed.squared_error().mean() + passed.penalty

    names = [name for name, _ in model.named_parameters()]
    assert torch.autograd.gradcheck(loss, tuple(model.parameters()))


def test_noise_is_what_it_says_and_only_in_training():
    x = torch.full((200, 50), 0.3)
    masked = corrupted(x, AutoencoderSettings(mask_noise=0.25))
    assert masked.unique().tolist() == pytest.approx([0, 0.3])
    assert float((masked == 0).double().mean()) == pytest.approx(0.25, abs=0.02)
    salted = corrupted(x, AutoencoderSettings(salt_noise=0.4))
    for value in (0, 1):
        assert float((salted == value).double().mean()) == pytest.approx(0.2, abs=0.02)
    added = corrupted(x, AutoencoderSettings(gaussian_noise=0.5)) - x
    assert float(added.std()) == pytest.approx(0.5, abs=0.02)
    assert abs(float(added.mean())) < 0.02
    model = made(widths=(3,), mask_noise=0.5)
    assert torch.equal(model.train()(rows()).wanted, rows())  # the clean input is wanted
    assert not torch.equal(model(rows()).scores, model(rows()).scores)
    assert torch.equal(model.eval()(rows()).scores, model(rows()).scores)


def test_a_layer_alone_gives_back_what_it_reads_and_teaches_no_other():
    model = made(widths=(5, 4, 2), activation="tanh").train()
    passed = model(rows(), 1)
    torch.testing.assert_close(passed.wanted, model.encode(rows(), 1))
    pair = model.pairs[1]
    back = torch.tanh(pair.decode(pair.activation(pair.sums(passed.wanted))))
    torch.testing.assert_close(passed.reconstruction, back)  # out of the tanh of the layer below
    passed.squared_error().sum().backward()
    taught = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert taught == {"1"}


def test_a_layer_alone_above_a_sigmoid_compares_probabilities():
    model = made(widths=(5, 4), activation="sigmoid", error="cross-entropy")
    assert model(rows(), 1).sigmoid
    assert not made(widths=(5, 4), activation="relu")(rows(), 1).sigmoid


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_sequence_goes_through_its_code(cell, bidirectional):
    torch.manual_seed(0)
    settings = AutoencoderSettings(widths=(3,))
    model = SequenceAutoencoder(
        4, 2, settings, ModelSettings(cell=cell, hidden=5, bidirectional=bidirectional)
    )
    x = torch.rand(6, 8)
    code = model.encode(x)
    assert code.shape == (6, 3)
    torch.testing.assert_close(model.decode(code), model(x).reconstruction)
    # Every number read reaches the code, and the code every number written.
    x.requires_grad_()
    (slopes,) = torch.autograd.grad(model.encode(x)[0].sum(), x)
    assert bool((slopes[0] != 0).all())
    assert not slopes[1:].any()
    assert model(x).squared_error().isfinite().all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"error": "cross-entropy", "output": "linear"}, "--output sigmoid"),
        ({"kl": 1.0}, "--activation sigmoid --code sigmoid"),
        ({"activation": "sigmiod"}, "sigmiod"),
    ],
)
def test_contradictions(settings, words):
    with pytest.raises(InputError, match=words):
        made(**settings)


@pytest.mark.parametrize(
    "setting", [{"layer_steps": 1}, {"tied_decoder": True}, {"kl": 1}, {"contraction": 1}]
)
def test_what_sequences_do_not_have(setting):
    settings = AutoencoderSettings(code="sigmoid", widths=(3,), **setting)
    with pytest.raises(InputError, match="--row-by-row"):
        SequenceAutoencoder(4, 2, settings, ModelSettings())


def test_the_output_is_a_sigmoid_or_nothing():
    assert isinstance(made().output, nn.Sigmoid)
    assert isinstance(made(output="linear").output, nn.Identity)
