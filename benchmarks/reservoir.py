"""An echo-state network beside reservoirpy's on Mackey-Glass: the same reservoir, error and seconds.

    python benchmarks/reservoir.py        (needs `pip install reservoirpy`)

Both have the 1,000 units of recipes/mackey-glass-esn.toml with the same weights, are fitted to 3,600 steps
and then run free for 84 steps from 20 starts; the error is normalised by the series' deviation.
"""

import time

import numpy as np
import torch
from reservoirpy.nodes import Reservoir, Ridge

import unrolled as ur
from unrolled.data.made import mackey_glass
from unrolled.layers import EchoStateNetwork

UNITS, LEAK, WASHOUT = 1000, 0.7, 200
# reservoirpy solves the normal equations, which a ridge as small as ours makes singular.
RIDGE = {"unrolled": 1e-14, "reservoirpy": 1e-9}
FITTED, AHEAD, STARTS, WARM = 3600, 84, 20, 400
ROUNDS = 5


def main() -> None:
    """Print error and median seconds of both."""
    series = mackey_glass(6000)[:, None]
    series = (series - series[:FITTED].mean()) / series[:FITTED].std()
    torch.manual_seed(0)
    options = {"spectral_radius": 1.0, "leak": LEAK, "input_scaling": 0.5, "bias_scaling": 1.0}
    cell = ur.cells.EchoState(1, UNITS, **options).double()
    ends = np.linspace(FITTED + WARM, len(series) - AHEAD, STARTS).astype(int)
    warm = np.stack([series[end - WARM : end] for end in ends])  # (starts, steps, 1)
    truth = np.stack([series[end + AHEAD - 1] for end in ends])
    sides = {
        "unrolled": lambda: _ours(cell, series, warm),
        "reservoirpy": lambda: _peer(cell, series, warm),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    errors = {}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            told, fitting, running = run()
            seconds[name].append((fitting, running))
            errors[name] = float(np.sqrt(((told - truth) ** 2).mean()) / series.std())
    print(f"{'':12} {'error':>9} {'fit (s)':>9} {'run (s)':>9}")
    for name in sides:
        fitting, running = np.median(seconds[name], 0)
        print(f"{name:12} {errors[name]:9.1e} {fitting:9.3f} {running:9.3f}")
    ratios = np.median(np.array(seconds["reservoirpy"]) / np.array(seconds["unrolled"]), 0)
    print(f"{'ratio':12} {'':9} {ratios[0]:9.2f} {ratios[1]:9.2f}")


def _ours(
    cell: ur.cells.EchoState, series: np.ndarray, warm: np.ndarray
) -> tuple[np.ndarray, float, float]:
    net = EchoStateNetwork(cell, 1, RIDGE["unrolled"], WASHOUT)
    x = torch.from_numpy(series[: FITTED + 1])[:, None]
    began = time.perf_counter()
    net.fit(x[:-1], x[1:])
    fitted = time.perf_counter()
    told = net.generate(torch.from_numpy(warm).transpose(0, 1), AHEAD)
    return told[-1].numpy(), fitted - began, time.perf_counter() - fitted


def _peer(
    cell: ur.cells.EchoState, series: np.ndarray, warm: np.ndarray
) -> tuple[np.ndarray, float, float]:
    reservoir = Reservoir(
        UNITS,
        lr=LEAK,
        W=cell.weight_h.numpy(),
        Win=cell.weight_x.numpy(),
        bias=cell.bias.numpy(),
    )
    model = reservoir >> Ridge(ridge=RIDGE["reservoirpy"])
    began = time.perf_counter()
    model.fit(series[:FITTED], series[1 : FITTED + 1], warmup=WASHOUT)
    fitted = time.perf_counter()
    told = []
    for past in warm:
        model.reset()
        y = model.run(past)[-1:]
        for _ in range(AHEAD - 1):
            y = model.run(y)
        told.append(y[-1])
    return np.array(told), fitted - began, time.perf_counter() - fitted


if __name__ == "__main__":
    main()
