"""What autograd is asked for around the layers: derivatives of all kinds, and memory given back."""

import gc
import weakref

import pytest
import torch
from peers import pair, parts
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing._internal.two_tensor import TwoTensor

import unrolled as ur
from unrolled.engine import native

X = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]
needs_core = pytest.mark.skipif(not native.available(), reason="the core is not built")


def same(one, other, tolerance=1e-12):
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def twice(layer):
    return layer(layer(X)[0])[0]


def in_two_pieces(layer):
    _, states = layer(X[:3])
    return layer(X[3:], states)[0]


def states_of_the_input(layer):
    h = X.mean(0)[None].mul(layer.weight_hh_l0.sum()).expand(1, 2, 3)
    return layer(X, (h, h) if isinstance(layer, ur.LSTM | nn.LSTM) else h)[0]


@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
@pytest.mark.parametrize("use", [twice, in_two_pieces, states_of_the_input])
def test_gradients_that_have_gradients(kind, use, compiled):
    """What is given may be computed from something else that is given, or stand in two places."""
    theirs, ours = pair(kind, 3, 3)
    ours.bias_hh_l0 = ours.bias_ih_l0
    theirs.bias_hh_l0 = theirs.bias_ih_l0
    found = []
    for layer in (theirs, ours):
        run = torch.compile(use, backend="eager") if compiled and layer is ours else use
        weights = [*layer.parameters()]
        first = torch.autograd.grad(run(layer).square().sum(), weights)
        again = torch.autograd.grad(run(layer).square().sum(), weights, create_graph=True)
        found.append([*first, *again])
        second = torch.autograd.grad(sum(g.square().sum() for g in again), weights)
        found[-1] += second
    for one, other in zip(*found, strict=True):
        same(one, other, 1e-9)


@needs_core
def test_memory_is_given_back_by_the_backward_pass(kind, monkeypatch):
    _, ours = pair(kind, 3, 4)
    saved = []
    frombuffer = torch.frombuffer

    def watched(block, **options):
        saved.append(weakref.ref(made := frombuffer(block, **options)))
        return made

    monkeypatch.setattr(torch, "frombuffer", watched)
    loss = ours(X)[0].sum()
    assert saved[0]() is not None
    loss.backward()
    gc.collect()
    assert saved[0]() is None
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


@pytest.mark.parametrize("what", ["y", "h"])
def test_results_may_be_changed_in_place(kind, what):
    _, ours = pair(kind, 3, 4)
    y, *states = parts(ours(X))
    tensor = y if what == "y" else states[0]
    tensor.detach_()
    assert not tensor.requires_grad
    y, *states = parts(ours(X))
    tensor = y if what == "y" else states[0]
    wanted = tensor.detach().clone() * 2 + 1
    tensor.mul_(2)
    tensor += 1
    tensor[0].clamp_(max=1e9)
    same(tensor.detach(), wanted)


def test_a_packed_result_is_compiled(kind):
    theirs, ours = pair(kind, 3, 4)
    steps = torch.tensor([5, 2])

    def run(layer):
        y, _ = layer(pack_padded_sequence(X, steps))
        return pad_packed_sequence(y)[0]

    same(torch.compile(run, backend="eager")(ours), run(theirs))


def test_tensors_that_are_more_than_numbers(kind):
    theirs, ours = pair(kind, 3, 4)
    y = ours(TwoTensor(X, X + 1))[0]
    assert isinstance(y, TwoTensor)
    same(y.a, theirs(X)[0])
    same(y.b, theirs(X + 1)[0])
    same(
        ours(torch._efficientzerotensor(X.shape, dtype=X.dtype))[0], theirs(torch.zeros_like(X))[0]
    )
    negated = torch._neg_view(X)
    same(ours(negated)[0], theirs(-X)[0])
    with FakeTensorMode():
        x = torch.randn(5, 2, 3, dtype=torch.float64)
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        theirs(x)
    assert type(_given_or_none(ours, x)).__name__ in ("FakeTensor", "NoneType")


def _given_or_none(layer, x):
    try:
        return layer(x)[0]
    except (AssertionError, RuntimeError, TypeError):
        return None


@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
def test_gradients_that_are_no_plain_tensors(kind, compiled):
    theirs, ours = pair(kind, 3, 4)
    found = []
    for layer in (theirs, ours):
        run = torch.compile(layer, backend="eager") if compiled and layer is ours else layer
        x = X.clone().requires_grad_()
        y = run(x)[0]
        upwards = torch.linspace(-1, 1, 3 * y.numel(), dtype=X.dtype).view(3, *y.shape)
        each = [torch.autograd.grad(y, x, g, retain_graph=True)[0] for g in upwards]
        together = (
            torch.stack(each)
            if compiled
            else torch.autograd.grad(y, x, upwards, is_grads_batched=True, retain_graph=True)[0]
        )
        same(together, torch.stack(each))
        negated = torch.autograd.grad(y, x, torch._neg_view(upwards[0]), retain_graph=True)[0]
        same(negated, -each[0])
        with forward_ad.dual_level():
            loss = (run(x)[0] * forward_ad.make_dual(upwards[0], upwards[1])).square().sum()
            dual = forward_ad.unpack_dual(torch.autograd.grad(loss, x)[0])
            found.append([together, dual.primal, dual.tangent])
    for one, other in zip(*found, strict=True):
        same(one, other)


@pytest.mark.parametrize("lengths", [[3, 5], [1, 1]])
def test_lengths_that_change_before_the_backward_pass(kind, lengths):
    torch.compiler.reset()  # after many other cells it would compile no more
    _, ours = pair(kind, 3, 4)
    x, steps = X.clone().requires_grad_(), torch.tensor([2, 2])
    y = torch.compile(ours, backend="eager")(x, lengths=steps)[0]
    steps.copy_(torch.tensor(lengths))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_device_that_is_the_default_meanwhile(kind):
    theirs, ours = pair(kind, 3, 4, bidirectional=True)
    packed = nn.utils.rnn.pack_sequence([X[:, 0], X[:2, 1]])
    lengths = torch.tensor([5, 2])
    with torch.device("meta"):
        y, rows, of_packed = ours(X)[0], ours(X, lengths=lengths)[0], ours(packed)[0]
    same(y, theirs(X)[0])
    same(rows, pad_packed_sequence(theirs(packed)[0])[0])
    same(of_packed.data, theirs(packed)[0].data)


def test_weights_made_ahead_in_inference_mode_serve_gradients_later(kind):
    _, ours = pair(kind, 3, 4)
    ours.to(torch.bfloat16).requires_grad_(False)
    x = X.bfloat16()
    with ur.frozen(ours):
        with torch.inference_mode():
            ours(x)
        later = x.clone().requires_grad_()
        ours(later)[0].sum().backward()
    assert later.grad is not None
