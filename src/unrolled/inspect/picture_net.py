"""Trained models as modules that take pictures."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from unrolled.checkpoint.load import Trained
from unrolled.inspect.model_data import lacking
from unrolled.tasks import pictures as reading
from unrolled.tasks.autoencoder import Autoencoder
from unrolled.tasks.few_labels import CodeClassifier
from unrolled.tasks.picture_examples import Pictures
from unrolled.tasks.picture_task import PictureTask


class Standard(nn.Module):
    """Pictures from 0 to 1 as a classifier reads them: of mean 0 and deviation 1."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, x: Tensor) -> Tensor:
        """Map each number of x."""
        return (x - self.mean) / self.deviation


def picture_net(trained: Trained, data: str, count: int) -> tuple[nn.Module, Tensor]:
    """Give a trained model as a module that takes pictures from 0 to 1, and the first of some data.

    Args:
        trained: A model that classifies or reconstructs pictures.
        data: Files, a folder or a data set, see :func:`unrolled.data.read_images`.
        count: Most pictures to give.

    Raises:
        InputError: If the model looks at no pictures or in no layers, or the data is not such.
    """
    task, model = trained.task, trained.model
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if isinstance(task, PictureTask) and isinstance(model, (Autoencoder, CodeClassifier)):
        encoder = model if isinstance(model, Autoencoder) else model.autoencoder
        parts |= {"rows": nn.Flatten(), "encoder": _encoder(encoder)}
        if isinstance(model, CodeClassifier):
            parts["readout"] = model.readout
        rows = reading.read_like([data], task.size, task.settings.pictures).pixels[:count]
    else:
        examples = getattr(task, "kind", None)
        if not isinstance(examples, Pictures):
            why = "looks at no pictures in layers; filters are of classify, reconstruct and few-labels"
            raise lacking(trained, why)
        parts = OrderedDict(standard=Standard(examples.mean, examples.deviation), model=model)
        rows = examples.read([data]).items[:count] / 255
    like = next(model.parameters())
    return nn.Sequential(parts), torch.from_numpy(rows).to(like.device, like.dtype)


def _encoder(autoencoder: Autoencoder) -> nn.Module:
    """Give an encoder as linear layers and activations that share its weights."""
    layers: list[nn.Module] = []
    for pair in autoencoder.pairs:
        units, inputs = pair.weight.shape  # pyright: ignore[reportGeneralTypeIssues]
        linear = nn.utils.skip_init(nn.Linear, inputs, units)
        linear.weight, linear.bias = pair.weight, pair.bias
        layers += [linear, pair.activation]  # pyright: ignore[reportArgumentType]
    return nn.Sequential(*layers)
