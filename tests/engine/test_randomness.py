"""Random numbers depend on (seed, step, layer, row) alone."""

import torch

import unrolled as ur
from unrolled import cells
from unrolled.engine.randomness import counter, dropout, uniform


def test_rows_do_not_depend_on_the_batch():
    like = torch.zeros(())
    with counter(seed=3, step=7):
        whole = uniform((5, 6, 4), layer=1, like=like)
    with counter(seed=3, step=7, first_row=2):
        part = uniform((5, 3, 4), layer=1, like=like)
    torch.testing.assert_close(part, whole[:, 2:5], rtol=0, atol=0)
    for other in ((4, 7, 1), (3, 8, 1), (3, 7, 2)):
        with counter(seed=other[0], step=other[1]):
            assert not torch.equal(uniform((5, 6, 4), layer=other[2], like=like), whole)


def test_dropout_keeps_the_mean():
    with counter(seed=0):
        y = dropout(torch.ones(50, 40, 10), 0.3, layer=1)
    assert ((y == 0) | ((y - 1 / 0.7).abs() < 1e-6)).all()
    assert abs(float(y.mean()) - 1) < 0.02


def test_dropout_between_layers_only_while_training():
    net = ur.Recurrent(cells.LSTM(3, 8), num_layers=2, dropout=0.5)
    x = torch.randn(4, 6, 3)
    plain = net.eval()(x)[0]
    torch.testing.assert_close(plain, net(x)[0], rtol=0, atol=0)
    net.train()
    with counter(seed=1, step=2):
        first = net(x)[0]
    with counter(seed=1, step=2, first_row=3):
        part = net(x[:, 3:])[0]
    assert not torch.equal(first, plain)
    torch.testing.assert_close(part, first[:, 3:])
    torch.manual_seed(5)
    free = net(x)[0]
    torch.manual_seed(5)
    torch.testing.assert_close(net(x)[0], free, rtol=0, atol=0)
    assert not torch.equal(net(x)[0], free)
