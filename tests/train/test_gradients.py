"""Gradients in pieces, in bfloat16 and with penalties, against the plain computation."""

import pytest
import torch
from toy_task import Toy

import unrolled as ur
from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.layers.constrain import max_norm_
from unrolled.settings import Settings
from unrolled.tasks.task import task_class
from unrolled.train import picture
from unrolled.train.gradients import Gradients
from unrolled.train.run import train


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: b"")


def toy(**flags):
    given = {"source": ("a",), "batch_size": 4, "window": 5, "hidden": 3, "dtype": "float64"}
    task = Toy(Settings.from_flags("toy", {**given, **flags}))
    return task, task.build()


def compute(steps=3, **flags):
    """Gradients of the last of some updates in which the weights stay; losses; what is handed on."""
    task, model = toy(**flags)
    gradients = Gradients(task, model, task.settings.training, slice(0, 4))
    carry, losses = {}, []
    for step in range(steps):
        loss, carry = gradients.compute(step, carry)
        losses.append(loss)
    return grads(model), losses, carry


def grads(model):
    found = {}
    for name, w in model.named_parameters():
        assert w.grad is not None
        found[name] = w.grad
    return found


def longest(trained, name):
    """The largest norm of a unit's incoming weights."""
    return dict(trained.model.named_parameters())[name].norm(dim=1).max()


@pytest.mark.parametrize("pieces", [2, 4])
def test_pieces_make_the_gradients_of_the_whole(pieces):
    whole, losses, carry = compute(dropout=0.3)
    parts, own, kept = compute(dropout=0.3, accumulate=pieces)
    assert own == pytest.approx(losses, rel=1e-12)
    torch.testing.assert_close(kept, carry)
    torch.testing.assert_close(parts, whole)


def test_pieces_must_come_out_even():
    with pytest.raises(InputError, match="--accumulate 3 does not divide the 4 rows"):
        compute(accumulate=3)


@pytest.mark.parametrize("pieces", [1, 2])
def test_penalties_on_weights_are_in_the_gradients_and_not_in_the_loss(pieces):
    plain, losses, _ = compute()
    held, own, _ = compute(l2=0.1, l1=0.2, accumulate=pieces)
    assert own == pytest.approx(losses, rel=1e-12)
    _, model = toy()
    for name, w in model.named_parameters():
        more = 0.2 * w + 0.2 * w.sign() if w.dim() > 1 else torch.zeros_like(w)
        torch.testing.assert_close(held[name], plain[name] + more)


def test_penalties_on_activations_are_in_the_gradients():
    flags = {"batch_size": 3, "hidden": 4, "dtype": "float64", "source": ("digits",)}
    settings = Settings.from_flags("classify", {**flags, "model": "rnn", "temporal_penalty": 0.5})
    task = task_class("classify").prepare(settings)
    model = task.build()
    loss, _ = Gradients(task, model, settings.training, slice(0, 3)).compute(0, {})
    found = [gradient.clone() for gradient in grads(model).values()]
    heard = []
    (net,) = (m for m in model.modules() if isinstance(m, ur.Recurrent))
    net.register_forward_hook(lambda *given: heard.append(given[-1][0]))
    with counter(0, 0, 0):
        plain, _ = task.loss(model, task.batch(0, slice(0, 3)), {})
    assert loss == pytest.approx(plain.item(), rel=1e-12)
    (h,) = heard
    whole = plain + 0.5 * (h[1:] - h[:-1]).square().mean()
    torch.testing.assert_close(found, list(torch.autograd.grad(whole, list(model.parameters()))))


def test_bfloat16_is_near_and_leaves_weights_as_they_are():
    full, losses, _ = compute(dtype="float32")
    half, own, _ = compute(dtype="float32", precision="bfloat16")
    assert own == pytest.approx(losses, rel=0.02)
    assert own != losses
    for name, gradient in half.items():
        assert gradient.dtype == torch.float32
        assert (gradient - full[name]).norm() < 0.05 * full[name].norm()


def test_bfloat16_of_float64_is_refused(tmp_path):
    with pytest.raises(InputError, match="--precision bfloat16 is for weights of float32"):
        train("toy", "a", out=tmp_path / "run", dtype="float64", precision="bfloat16")


def test_norms_of_units_stay_within_their_bound(tmp_path):
    flags = {"hidden": 5, "steps": 4, "lr": 0.3, "split": (1.0, 0.0, 0.0)}
    free = train("toy", "a", out=tmp_path / "free", **flags)
    kept = train("toy", "a", out=tmp_path / "kept", unit_norm=0.5, **flags)
    one = train(
        "toy", "a", out=tmp_path / "one", unit_norm=0.5, penalised=("outer.weight",), **flags
    )
    bound = 0.5 * (1 + 1e-6)
    assert longest(free, "inner.weight") > 0.6
    assert longest(kept, "inner.weight") <= bound
    assert longest(one, "inner.weight") > 0.6
    assert longest(one, "outer.weight") <= bound
    torch.testing.assert_close(
        max_norm_(torch.tensor([[3.0, 4.0]]), 1.0), torch.tensor([[0.6, 0.8]])
    )


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"l2": 0.1}, "a penalty on weights"),
        ({"temporal_penalty": 0.1}, "a penalty on activations"),
        ({"accumulate": 2}, "a batch in pieces"),
        ({"clip_each": 1.0}, "clipping each parameter by itself"),
        ({"optimizer": "momentum", "momentum_form": "velocity"}, "momentum in the form of"),
        ({"precision": "bfloat16"}, "bfloat16"),
    ],
)
def test_what_whole_steps_lack_is_said(flags, what, tmp_path):
    class Heard(ur.Callback):
        whole = ""

        def on_start(self, event):
            self.whole = event.whole or ""

    (tmp_path / "text.txt").write_text("pack my box with five dozen liquor jugs. " * 20)
    heard = Heard()
    few = {"hidden": 5, "steps": 2, "batch_size": 2, "window": 6, "sample_length": 0}
    train(
        "generate",
        str(tmp_path / "text.txt"),
        out=tmp_path / "run",
        callbacks=[heard],
        **few,
        **flags,
    )
    assert what in heard.whole
    assert heard.whole.endswith("is left to torch")
