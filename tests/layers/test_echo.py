"""The echo-state network: its read-out is that of ridge regression, and it runs free."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from unrolled import cells
from unrolled.layers.echo import EchoStateNetwork


def mackey_glass(steps, seed=0, tau=17, every=10):
    """Euler steps of 0.1 of x' = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x, squashed by tanh."""
    past = tau * every
    x = list(1.2 + 0.2 * (np.random.default_rng(seed).random(past + 1) - 0.5))
    for _ in range(steps * every + 1000 * every):
        late = x[-past - 1]
        x.append(x[-1] + 0.1 * (0.2 * late / (1 + late**10) - 0.1 * x[-1]))
    return torch.from_numpy(np.tanh(np.array(x[-steps * every :: every]) - 1))[:, None, None]


@pytest.mark.parametrize("steps", [300, 3000])
def test_the_readout_is_that_of_ridge_regression(steps):
    torch.manual_seed(0)
    reservoir = cells.EchoState(2, 20).double()
    x, y = torch.randn(steps, 3, 2).double(), torch.randn(steps, 3, 4).double()
    network = EchoStateNetwork(reservoir, 4, ridge=0.1, washout=50).fit(x, y)
    features, _ = network._features(x, None)
    own = features[50:, :, 1:].flatten(0, 1).numpy()
    ridge = Ridge(alpha=0.1).fit(own, y[50:].flatten(0, 1).numpy())
    found, states = network(x)
    wanted = ridge.predict(features[..., 1:].flatten(0, 1).numpy())
    np.testing.assert_allclose(found.flatten(0, 1).numpy(), wanted, atol=1e-9)
    assert states["h"].shape == (1, 3, 20)


def test_it_learns_and_generates_mackey_glass():
    torch.manual_seed(1)
    series = mackey_glass(1700)
    reservoir = cells.EchoState(1, 200, 0.9, bias_scaling=0.5, leak=0.7).double()
    network = EchoStateNetwork(reservoir, 1, ridge=1e-9).fit(series[:1500], series[1:1501])
    wanted = series[1501:1551]
    found = network.generate(series[:1501], 50)
    assert found.shape == (50, 1, 1)
    error = (found - wanted).square().mean().sqrt() / series.std()
    constant = (series[1500] - wanted).square().mean().sqrt() / series.std()
    assert error < 0.05 < constant
    again, states = network(series[:1501])
    assert (found[0] == again[-1]).all()
    torch.testing.assert_close(network(found[:1], states)[0], found[1:2])


def test_it_is_saved_and_loaded():
    torch.manual_seed(0)
    x = torch.randn(30, 1, 2)
    one = EchoStateNetwork(cells.EchoState(2, 5), 2, washout=3).fit(x, x)
    other = EchoStateNetwork(cells.EchoState(2, 5), 2)
    with pytest.raises(RuntimeError, match="no read-out yet; call fit first"):
        other(x)
    other.load_state_dict(one.state_dict())
    assert (other(x)[0] == one(x)[0]).all()


def test_bad_input():
    cell = cells.EchoState(2, 5)
    with pytest.raises(ValueError, match="the ridge must not be negative"):
        EchoStateNetwork(cell, 1, ridge=-1.0)
    with pytest.raises(ValueError, match="the washout must not be negative"):
        EchoStateNetwork(cell, 1, washout=-1)
    network = EchoStateNetwork(cell, 1, washout=10)
    with pytest.raises(ValueError, match="a washout of 10 leaves none of 10 steps"):
        network.fit(torch.zeros(10, 1, 2), torch.zeros(10, 1, 1))
    with pytest.raises(ValueError, match="x and y must be"):
        network.fit(torch.zeros(20, 1, 2), torch.zeros(20, 1, 2))
    network.fit(torch.randn(20, 1, 2), torch.randn(20, 1, 1))
    with pytest.raises(ValueError, match="outputs 1 wide cannot be fed back"):
        network.generate(torch.zeros(5, 1, 2), 3)
