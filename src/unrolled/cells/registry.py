"""A cell by name: registered, `module:Class`, or `path.py:Class`."""

import ast
import hashlib
import importlib
import inspect
import linecache
import sys
import textwrap
from pathlib import Path
from types import ModuleType

from unrolled.cells.batch_norm import BatchNormLSTM
from unrolled.cells.convolutional import ConvGRU, ConvLSTM
from unrolled.cells.echo import EchoState
from unrolled.cells.elman import IRNN, Elman, PreActivation
from unrolled.cells.feedback import Jordan
from unrolled.cells.gru import GRU, MinimalGated, ResetBeforeGRU
from unrolled.cells.highway import RecurrentHighway
from unrolled.cells.independent import IndRNN
from unrolled.cells.layer_norm import LayerNormGRU, LayerNormLSTM
from unrolled.cells.leaky import Leaky
from unrolled.cells.linear import LRU, MinGRU, MinLSTM
from unrolled.cells.lstm import (
    LSTM,
    LSTM1997,
    CoupledLSTM,
    MultiplicativeLSTM,
    PeepholeLSTM,
    ProjectedLSTM,
)
from unrolled.cells.orthogonal import Orthogonal, Spectral
from unrolled.cells.skip import Clockwork, Dilated, Skip
from unrolled.cells.slstm import SLSTM
from unrolled.cells.topdown import TopDown
from unrolled.cells.unitary import Unitary
from unrolled.engine import Cell
from unrolled.errors import InputError
from unrolled.settings import ModelSettings

CELLS: dict[str, type[Cell]] = {
    "rnn": Elman,
    "lstm": LSTM,
    "gru": GRU,
    "irnn": IRNN,
    "preactivation": PreActivation,
    "jordan": Jordan,
    "leaky": Leaky,
    "orthogonal": Orthogonal,
    "spectral": Spectral,
    "unitary": Unitary,
    "indrnn": IndRNN,
    "esn": EchoState,
    "lstm-1997": LSTM1997,
    "lstm-peephole": PeepholeLSTM,
    "lstm-coupled": CoupledLSTM,
    "lstm-layernorm": LayerNormLSTM,
    "lstm-batchnorm": BatchNormLSTM,
    "lstm-multiplicative": MultiplicativeLSTM,
    "lstm-projected": ProjectedLSTM,
    "slstm": SLSTM,
    "gru-before": ResetBeforeGRU,
    "gru-layernorm": LayerNormGRU,
    "mgu": MinimalGated,
    "skip": Skip,
    "dilated": Dilated,
    "clockwork": Clockwork,
    "highway": RecurrentHighway,
    "topdown": TopDown,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "lru": LRU,
}
"""Cells that are built from ``(input_size, hidden_size)``, by name."""

GRIDS: dict[str, type[Cell]] = {"convlstm": ConvLSTM, "convgru": ConvGRU}
"""Cells over a grid, whose ``shape`` the data gives, by name."""


def resolve(name: str) -> type[Cell]:
    """Find a cell's class.

    Args:
        name: A registered name (`lstm`), `module:Class` or `path.py:Class`.

    Raises:
        InputError: If there is no such name, module, file or class, or it is not a ``Cell``.
    """
    if found := CELLS.get(name) or GRIDS.get(name):
        return found
    module_name, colon, class_name = name.rpartition(":")
    if not colon or not module_name or not class_name:
        known = ", ".join([*CELLS, *GRIDS])
        raise InputError(
            f"no cell {name!r}; give one of {known}, or your own as module:Class or path.py:Class"
        )
    module = _module(module_name)
    found = getattr(module, class_name, None)
    if found is None:
        raise InputError(f"{module_name} has no class {class_name!r}")
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise InputError(f"{class_name} of {module_name} is not a subclass of unrolled.Cell")
    return found


def make_cell(model: ModelSettings, input_size: int) -> Cell:
    """Build the first layer's cell as the settings say.

    Raises:
        InputError: If the class cannot be built from ``(input_size, hidden_size)`` and the options.
    """
    cell_class, options = resolve(model.cell), dict(model.cell_options)
    if cell_class is Elman:
        options = {"nonlinearity": model.nonlinearity, **options}
    try:
        return cell_class(input_size, model.hidden, **options)
    except (TypeError, ValueError) as error:
        given = "".join(f", {name}={value}" for name, value in options.items())
        raise InputError(
            f"cell {model.cell} cannot be built as "
            f"{cell_class.__name__}(input_size, hidden_size{given}): {error}"
        ) from None


def fingerprint(cell_class: type[Cell]) -> str:
    """Hash a cell's source, comments and layout aside, to tell whether a model still fits it."""
    source = textwrap.dedent(inspect.getsource(cell_class))
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()[:16]


def _module(name: str) -> ModuleType:
    path = Path(name)
    try:
        if path.suffix != ".py":
            return importlib.import_module(name)
        if not path.is_file():
            raise InputError(f"no file {name} to read a cell from")
        # Compiled here and not by importlib, whose cache of bytecode may be a second old.
        module = ModuleType(f"unrolled_cell_{path.stem}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        linecache.checkcache(str(path))
    except InputError:
        raise
    except Exception as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"loading {name} failed{line}: {type(error).__name__}: {error}") from error
    return module
