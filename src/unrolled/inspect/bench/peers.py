"""Who is set against us, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from unrolled.errors import InputError, UnrolledError
from unrolled.inspect.bench import (
    array_sides,
    onnx_side,
    step_sides,
    torch_sides,
    torchrecurrent_side,
)
from unrolled.inspect.bench.side import Case, Side, Skipped
from unrolled.inspect.bench.workloads import Workload

Maker = Callable[[Case], Side]


@dataclass(frozen=True)
class Peer:
    """A way to compute workloads.

    Attributes:
        what: In words.
        needs: The modules it needs beside what is always installed.
        layer: Makes its side of a layer.
        step: Makes its side of a whole training step.
    """

    what: str
    needs: tuple[str, ...] = ()
    layer: Maker | None = None
    step: Maker | None = None


PEERS: dict[str, Peer] = {
    "torch": Peer("torch.nn's layer", (), torch_sides.torch_nn, step_sides.TorchStep),
    "padded": Peer("torch.nn's layer over padded rows", (), torch_sides.padded),
    "loop": Peer("the step in a Python loop", (), torch_sides.loop),
    "compile": Peer("torch.compile of that loop", (), torch_sides.compiled_loop),
    "jax": Peer("JAX, lax.scan", ("jax",), array_sides.JaxSide, step_sides.JaxStep),
    "numpy": Peer("NumPy", (), array_sides.numpy_loop, step_sides.NumpyStep),
    "onnxruntime": Peer("ONNX Runtime", ("onnxruntime", "onnx"), onnx_side.OnnxSide),
    "torchrecurrent": Peer(
        "torchrecurrent's layer", ("torchrecurrent",), torchrecurrent_side.TorchRecurrentSide
    ),
    "plain": Peer("ours without the noise", (), torch_sides.plain),
}


def choose(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of peers.

    Raises:
        InputError: If there is no such peer.
    """
    for name in names:
        if name not in PEERS:
            raise InputError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    return tuple(dict.fromkeys(names))


def make(name: str, case: Case) -> Side:
    """Make a peer's side of a workload.

    Raises:
        Skipped: If the peer is not installed, or the workload is not for it, or making it failed.
    """
    peer = PEERS[name]
    for module in peer.needs:
        if find_spec(module) is None:
            raise Skipped("is not installed" if module == name else f"needs {module}")
    maker = peer.step if case.workload.mode == "step" else peer.layer
    if maker is None:
        raise Skipped("is set up for single layers only")
    return maker(case)


def make_case(workload: Workload) -> Case:
    """Draw a workload's weights and input."""
    step = workload.mode == "step"
    return (step_sides.make_step_case if step else torch_sides.make_case)(workload)


def make_ours(case: Case) -> Side:
    """Make this package's side of a workload."""
    return (step_sides.OurStep if case.workload.mode == "step" else torch_sides.ours)(case)


def make_reference(case: Case) -> Side:
    """Make the side that all others are compared with: torch's."""
    step = case.workload.mode == "step"
    return (step_sides.TorchStep if step else torch_sides.reference)(case)


def failure(error: Exception) -> str:
    """Give the reason why a peer is skipped: its own, or how it failed.

    Raises:
        UnrolledError: If the error is one of ours.
    """
    if isinstance(error, Skipped):
        return str(error)
    if isinstance(error, UnrolledError):
        raise error
    first = (str(error).splitlines() or [""])[0]
    return f"failed: {type(error).__name__}: {first}"[:200]
