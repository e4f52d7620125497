"""The computational graph of a trained model: of its loss on one row, or of a few steps of its cells."""

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.checkpoint.load import Trained
from unrolled.errors import InputError
from unrolled.inspect.graph import Graph, graph
from unrolled.inspect.model_data import lacking, with_data
from unrolled.layers import Recurrent
from unrolled.layers.standard import StandardLayers

STEPS = 3
"""Of a recurrent model are drawn."""


def graph_of(trained: Trained, source: str, *, steps: int = STEPS) -> tuple[str, Graph]:
    """Write down what a model computes on the first row of some data.

    Of a recurrent model these are the first layers that run over time, unrolled over a few steps, with the
    sum of their outputs in the place of the loss; of others it is the loss.

    Args:
        trained: The model.
        source: Data such as it was trained on.
        steps: Most steps to unroll.

    Returns:
        What is differentiated, in words, and the graph.

    Raises:
        InputError: If the data does not fit, or the model computes where it cannot be watched.
    """
    task = with_data(trained, source, batch_size=1)
    model = trained.model.eval()
    batch = task.batch(0, slice(0, 1))
    heard: list[tuple[nn.Module, Tensor]] = []

    def hear(module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
            heard.append((module, given[0].detach()))

    layers = [m for m in model.modules() if isinstance(m, Recurrent | StandardLayers)]
    handles = [layer.register_forward_pre_hook(hear) for layer in layers]
    try:
        with torch.no_grad():
            task.loss(model, batch, {})
    finally:
        for handle in handles:
            handle.remove()
    if not heard:
        if layers:
            raise InputError(f"{trained.directory} runs its layers in a way that cannot be watched")
        if not any(w.requires_grad for w in model.parameters()):
            raise lacking(trained, "has no weights by which its loss has a gradient")
        return "the loss of one row", graph(lambda: task.loss(model, batch, {})[0], module=model)
    net, x = heard[0]
    time = 1 if getattr(net, "batch_first", False) else 0
    x = x.narrow(time, 0, min(steps, x.shape[time])).narrow(1 - time, 0, 1)
    title = f"the sum of the outputs of {type(net).__name__} over {x.shape[time]} steps"
    return title, graph(lambda x: net(x)[0].sum(), {"x": x}, module=net)
