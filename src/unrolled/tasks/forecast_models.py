"""Models that forecast: recurrent, temporally convolutional, a perceptron or a line over lags, a reservoir.

T steps, B rows, I inputs, H hidden; L steps of a window, N windows.
"""

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from unrolled.cells import make_cell
from unrolled.cells.echo import EchoState
from unrolled.cells.registry import GRIDS
from unrolled.cells.start import normal_start
from unrolled.data.lagged import least_squares
from unrolled.data.row_targets import RowTargets
from unrolled.data.sequences import Source
from unrolled.data.series import Series
from unrolled.engine import States
from unrolled.errors import InputError
from unrolled.layers import EchoStateNetwork
from unrolled.layers.blocks import TemporalConvolution
from unrolled.layers.build import make_net
from unrolled.settings import ModelSettings, Settings
from unrolled.tasks.forecast_heads import Direction, Head, Point
from unrolled.tasks.text_models import dropped, layered

TAPS = 3
"""Of each convolution in time."""
WINDOWS = 2048
"""Windows that are read side by side."""
Shape = tuple[int, ...]


class Forecaster(nn.Module):
    """Numbers -> recurrent layers -> a linear read-out at every step.

    Of films a convolutional cell sees whole frames, and any other each pixel as a row by itself.

    Args:
        inputs: I.
        shape: Of what is told at a step, (O,) or (O, ...).
        grid: Rows and columns of films, else ``()``.
        model: Cell, widths and noise.

    Raises:
        InputError: If a setting is for other tasks, or the cell cannot be built.
    """

    carries = True
    """Whether states say all of what was read."""

    def __init__(self, inputs: int, shape: Shape, grid: Shape, model: ModelSettings) -> None:
        super().__init__()
        if model.tied:
            raise InputError("--tied is for language models: a forecaster reads out numbers")
        if model.bidirectional:
            raise InputError("--bidirectional would read what is to be forecast")
        self.convolves = model.cell in GRIDS
        if self.convolves and not grid:
            raise InputError(f"cell {model.cell} is for films, as moving-digits; take lstm or gru")
        self.films = bool(grid)
        if self.convolves:
            options = {**model.cell_options, "shape": grid}
            model = model.model_copy(update={"cell_options": options})
        self.shape = shape
        self.net = make_net(model, inputs)
        self.readout = nn.Linear(self.net.output_size, math.prod(shape))

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Forecast: x (T, B, I, ...) -> y (T, B, O, ...), logits if binary, and the last states."""
        shape = x.shape
        if self.films and not self.convolves:
            x = x.movedim(2, -1).reshape(shape[0], -1, shape[2])  # (T, B * pixels, I)
        h, last = self.net(x, states, lengths=lengths)
        if self.convolves:
            return self.readout(h.movedim(2, -1)).movedim(-1, 2), last
        y = self.readout(h)
        if self.films:
            return y.reshape(*shape[:2], *shape[3:], -1).movedim(-1, 2), last
        return y.unflatten(-1, self.shape), last

    def at_end(self, x: Tensor) -> Tensor:
        """Forecast from the last of all steps: x (L, N, I) -> (N, O, ...)."""
        h, _ = self.net(x)
        return self.readout(h[-1]).unflatten(-1, self.shape)


class Convolutional(nn.Module):
    """Numbers -> temporal blocks, each a layer -> a linear read-out at every step (Bai et al. 2018).

    Args:
        inputs: I.
        shape: Of what is told at a step.
        model: ``hidden`` filters in each of ``layers`` blocks, and ``dropout``.
    """

    carries = False

    def __init__(self, inputs: int, shape: Shape, model: ModelSettings) -> None:
        super().__init__()
        self.shape = shape
        filters = [model.hidden] * model.layers
        self.net = TemporalConvolution(inputs, filters, TAPS, model.dropout)
        self.reach = self.net.receptive_field
        self.readout = nn.Linear(model.hidden, math.prod(shape))

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Forecast: x (T, B, I) -> y (T, B, O, ...); there are no states."""
        h = self.net(x.permute(1, 2, 0)).permute(2, 0, 1)
        return self.readout(h).unflatten(-1, self.shape), {}

    def at_end(self, x: Tensor) -> Tensor:
        """Forecast from the last of all steps: x (L, N, I) -> (N, O, ...)."""
        h = self.net(x.permute(1, 2, 0))
        return self.readout(h[..., -1]).unflatten(-1, self.shape)


class Perceptron(nn.Module):
    """All numbers of a window -> hidden layers -> what is told.

    Args:
        source: Whose order of inputs counts.
        shape: Of what is told.
        settings: ``dense``, else ``layers`` of ``hidden`` units; ``dropout`` of the inputs.
    """

    def __init__(self, source: Series, shape: Shape, settings: Settings) -> None:
        super().__init__()
        model, own = settings.model, settings.classifier
        dense = own.dense or (model.hidden,) * model.layers
        self.columns, self.shape, self.dropout = len(source.columns), shape, model.dropout
        self.readout = layered(features_of(source), dense, math.prod(shape), own.dense_activation)

    def at_end(self, x: Tensor) -> Tensor:
        """Forecast from windows x (L, N, I) -> (N, O, ...)."""
        seen = dropped(as_features(x, self.columns), self.dropout, self.training, 0)
        return self.readout(seen).unflatten(-1, self.shape)


class RowPerceptron(nn.Module):
    """All numbers of a row -> hidden layers -> what is told: f = W2 a(W1 x + b1) + b2 with one.

    Args:
        inputs: I.
        shape: Of what is told of a row.
        settings: ``dense``, else ``layers`` of ``hidden`` units; ``dropout`` of the inputs.
    """

    carries = False

    def __init__(self, inputs: int, shape: Shape, settings: Settings) -> None:
        super().__init__()
        model, own = settings.model, settings.classifier
        dense = own.dense or (model.hidden,) * model.layers
        self.shape, self.dropout = shape, model.dropout
        self.readout = layered(inputs, dense, math.prod(shape), own.dense_activation)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Tell rows x (1, B, I) -> (1, B, O, ...); there are no states."""
        seen = dropped(x[0], self.dropout, self.training, 0)
        return self.readout(seen).unflatten(-1, self.shape)[None], {}


class AutoRegression(nn.Module):
    """x_{t+h} = b_h + a_{h1} x_t + a_{h2} x_{t-1} + ... for each h, by least squares; ARX of several columns.

    How far it misses in training says how sure it is.

    Args:
        source: Whose order of inputs counts.
        head: What is told.
        ridge: Times the squares of the coefficients, added to the sum of squared errors.
    """

    weight: Tensor
    bias: Tensor
    offsets: Tensor

    def __init__(self, source: Series, head: Head, ridge: float) -> None:
        super().__init__()
        self.columns, self.head, self.ridge = len(source.columns), head, ridge
        count = math.prod(source.shape)
        self.register_buffer("weight", torch.zeros(features_of(source), count).double())
        self.register_buffer("bias", torch.zeros(count).double())
        self.register_buffer("offsets", torch.zeros(*source.shape, *head.extra).double())

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Solve for windows x (L, N, I) and what follows them y (N, K, H)."""
        features = as_features(x, self.columns).double().cpu().numpy()
        wanted = y.flatten(1).double().cpu().numpy()
        weight, bias = least_squares(features, wanted, self.ridge)
        errors = (wanted - features @ weight - bias).reshape(y.shape)
        for buffer, found in (
            (self.weight, weight),
            (self.bias, bias),
            (self.offsets, self.head.around(errors)),
        ):
            buffer.copy_(torch.from_numpy(found))

    def at_end(self, x: Tensor) -> Tensor:
        """Forecast from windows x (L, N, I) -> (N, K, H), or (N, K, H, P)."""
        told = as_features(x, self.columns).double() @ self.weight + self.bias
        shape = self.offsets.shape[:2]
        offsets = self.offsets.expand(len(told), *self.offsets.shape)
        return self.head.shifted(offsets, told.unflatten(-1, shape)).to(x.dtype)


class AtEnd(Protocol):
    """A model that forecasts from the end of a window."""

    def at_end(self, x: Tensor) -> Tensor:
        """Forecast: x (L, N, I) -> (N, ...)."""
        ...


class Windowed(nn.Module):
    """A model that reads the last L steps only, less the last value of each column if `relative`.

    A forecast is then relative to the last value too, as in Zeng et al. 2023, NLinear: a level that
    training never saw makes no difference.

    Args:
        net: Has a method ``at_end``.
        source: What is read.
        head: What is told.
        relative: Whether the last value is taken off. What is known ahead stays as it is.
    """

    carries = False

    def __init__(self, net: nn.Module, source: Series, head: Head, *, relative: bool) -> None:
        super().__init__()
        self.net, self.head = net, head
        self.steps = self.reach = source.context
        self.targets = source.targets if relative else []
        columns = range(len(source.columns))
        self.relative = [n for n in columns if n not in source.known] if relative else []

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Forecast: x (T, B, I) -> y (T, B, K, H, ...), zero at the first L - 1 steps; no states."""
        windows, now = self.windows(x)
        net: AtEnd = self.net  # pyright: ignore[reportAssignmentType]
        told = torch.cat([net.at_end(part) for part in windows.split(WINDOWS, 1)])
        if self.targets:
            told = self.head.shifted(told, now)
        y = told.unflatten(0, (-1, x.shape[1]))
        return torch.cat([y.new_zeros(self.steps - 1, *y.shape[1:]), y]), {}

    def windows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lay out all windows: x (T, B, I) -> (L, N B, I), and the last targets (N B, K, 1)."""
        windows = x.unfold(0, self.steps, 1).permute(3, 0, 1, 2).flatten(1, 2)
        now = windows[-1, :, self.targets, None]
        if self.relative:
            windows = windows.clone()
            windows[..., self.relative] -= windows[-1:, :, self.relative].clone()
        return windows, now

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Fit a net in closed form: inputs (T, B, I), what is to be told (T, B, K, H)."""
        assert isinstance(self.net, AutoRegression)
        windows, now = self.windows(x)
        wanted = y[self.steps - 1 :].flatten(0, 1)
        self.net.fit(windows, wanted - now if self.targets else wanted)


class Echo(nn.Module):
    """An echo-state network where a :class:`Forecaster` may stand; nothing in it follows gradients.

    Args:
        inputs: I.
        shape: Of what is told at a step.
        model: The reservoir's options, ``ridge`` and ``washout``.

    Raises:
        InputError: If there is more than one layer, or the reservoir cannot be built.
    """

    carries = True

    def __init__(self, inputs: int, shape: Shape, model: ModelSettings) -> None:
        super().__init__()
        if model.layers > 1:
            raise InputError(f"--layers {model.layers}: an echo-state network has one reservoir")
        reservoir = make_cell(model, inputs)
        assert isinstance(reservoir, EchoState)
        reservoir.to(getattr(torch, model.dtype))
        self.shape = shape
        self.esn = EchoStateNetwork(reservoir, math.prod(shape), model.ridge, model.washout)

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Fit the read-out: x (T, B, I), y (T, B, O, ...)."""
        self.esn.fit(x, y.flatten(2))

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        """Forecast, as :meth:`Forecaster.forward`, of rows that are all T long."""
        y, last = self.esn(x, states)
        return y.unflatten(-1, self.shape), last


def features_of(source: Series) -> int:
    """Count what :func:`as_features` gives."""
    columns = len(source.columns)
    return source.context * columns + source.inputs - columns


def as_features(x: Tensor, columns: int) -> Tensor:
    """Lay a window out flat: the columns at all steps, and what is known ahead at the last.

    x (L, N, I) -> (N, L C + I - C).
    """
    return torch.cat([x[..., :columns].transpose(0, 1).flatten(1), x[-1, :, columns:]], 1)


def forecast_model(source: Source, head: Head, settings: Settings) -> nn.Module:
    """Build the model of the settings, its weights drawn from torch's generator.

    Raises:
        InputError: If the data or the head does not go with it.
    """
    model, own = settings.model, settings.classifier.model or "rnn"
    shape = source.shape + head.extra
    if own == "bag":
        raise InputError(
            "--model bag counts symbols of a text; to forecast give rnn, cnn, mlp or ar"
        )
    if model.cell == "esn" and own == "rnn":
        if not isinstance(head, Point) or settings.forecast.scaling == "window":
            raise InputError(
                "cell esn tells points, and knows no --scaling window; take --model ar"
            )
        return Echo(source.inputs, shape, model)
    if isinstance(source, RowTargets):
        net = RowPerceptron(source.inputs, shape, settings)
    elif own in ("ar", "mlp"):
        if not isinstance(source, Series):
            raise InputError(f"--model {own} is for series; for {source.kind} give rnn or cnn")
        if own == "ar" and isinstance(head, Direction):
            raise InputError("--model ar tells values: --head direction takes rnn, cnn or mlp")
        net = (
            AutoRegression(source, head, model.ridge)
            if own == "ar"
            else Perceptron(source, shape, settings)
        )
    elif own == "cnn":
        if source.grid:
            raise InputError("--model cnn reads along time; for films give --cell convlstm")
        net = Convolutional(source.inputs, shape, model)
    else:
        net = Forecaster(source.inputs, shape, source.grid, model)
    if model.initial_scale:
        normal_start(net, model.initial_scale)
    if own != "ar":
        net.to(getattr(torch, model.dtype))
    relative = settings.forecast.scaling == "window"
    if isinstance(source, Series) and (relative or own in ("ar", "mlp")):
        return Windowed(net, source, head, relative=relative)
    return net
