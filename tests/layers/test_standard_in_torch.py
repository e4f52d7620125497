"""Whatever torch does with its own recurrent modules it can do with ours."""

import copy
import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peers import GRID, gradients, pair, parts, states_for
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence

import unrolled as ur
from unrolled.engine import native
from unrolled.engine.randomness import counter

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
X = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def same(a, b, tolerance=1e-12):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def agree(theirs, ours, x=X):
    """Compare results and the gradients of all parameters."""
    results = [parts(layer(x)) for layer in (ours, theirs)]
    same(*results)
    found = [
        gradients(result, [*layer.parameters()])
        for result, layer in zip(results, (ours, theirs), strict=True)
    ]
    same(*found)


class TestParameters:
    @pytest.mark.parametrize(("kind", "layers", "both", "first", "bias", "proj"), GRID)
    def test_names_start_and_print(self, kind, layers, both, first, bias, proj):
        options = {"proj_size": proj} if proj else {}
        theirs, ours = pair(
            kind,
            3,
            4,
            layers,
            bidirectional=both,
            batch_first=first,
            bias=bias,
            dropout=0.5 if layers > 1 else 0.0,
            **options,
        )
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        same(ours.parameters(), theirs.parameters(), 0)
        same(ours.all_weights[0], theirs.all_weights[0], 0)
        for parameter in theirs.parameters():
            nn.init.normal_(parameter)
        ours.load_state_dict(theirs.state_dict())
        same(ours.parameters(), theirs.parameters(), 0)
        theirs.load_state_dict(ours.state_dict(), assign=True)
        for attribute in ("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first"):
            assert getattr(ours, attribute) == getattr(theirs, attribute)

    @pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
    def test_random_numbers_are_used_alike(self, name):
        drawn = []
        for home in (nn, ur):
            torch.manual_seed(0)
            getattr(home, name)(3, 4)
            drawn.append(torch.rand(3))
        same(*drawn, 0)

    def test_built_elsewhere(self, kind):
        with torch.device("meta"):
            layer = getattr(ur, kind)(2, 4)
        assert layer(X.float().to("meta"))[0].device.type == "meta"
        layer.to_empty(device="cpu").reset_parameters()
        theirs, ours = pair(kind, 2, 4)
        layer.double().load_state_dict(ours.state_dict())
        agree(theirs, layer)
        assert nn.utils.skip_init(getattr(ur, kind), 2, 4).weight_ih_l0.shape[1] == 2

    @pytest.mark.parametrize(
        "copier",
        [
            copy.copy,
            copy.deepcopy,
            lambda m: pickle.loads(pickle.dumps(m)),
            lambda m: _saved(m),
        ],
    )
    def test_copies(self, kind, copier):
        theirs, ours = pair(kind, 2, 4, 2, bidirectional=True)
        agree(theirs, copier(ours))
        agree(copier(theirs), ours)

    def test_flatten_parameters_and_moves(self, kind):
        theirs, ours = pair(kind, 2, 4, 2)
        ours.flatten_parameters()
        agree(theirs, ours)
        assert ours.float()(X.float())[0].dtype == torch.float32
        ours.share_memory()
        ours(X.float())


def _saved(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class Symmetric(nn.Module):
    def forward(self, w):
        return w.tanh() * 0.9


class TestParametrisations:
    def test_parametrize(self, kind):
        theirs, ours = pair(kind, 2, 4, 2)
        for layer in (theirs, ours):
            parametrize.register_parametrization(layer, "weight_hh_l0", Symmetric())
        agree(theirs, ours)
        agree(theirs, copy.deepcopy(ours))
        with parametrize.cached():
            agree(theirs, ours)
        for layer in (theirs, ours):
            parametrize.remove_parametrizations(layer, "weight_hh_l0")
        agree(theirs, ours)

    def test_evaluated_once_a_call(self, kind):
        _, ours = pair(kind, 2, 4, 2)
        calls = []
        count = Symmetric()
        count.register_forward_hook(lambda *_: calls.append(1))
        parametrize.register_parametrization(ours, "weight_hh_l1", count)
        calls.clear()
        ours(X)
        assert len(calls) == 1

    def test_weight_norm(self, kind):
        theirs, ours = pair(kind, 2, 4)
        for layer in (theirs, ours):
            parametrizations.weight_norm(layer, "weight_hh_l0")
        agree(theirs, ours)

    def test_old_weight_norm(self, kind):
        theirs, ours = pair(kind, 2, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            for layer in (theirs, ours):
                nn.utils.weight_norm(layer, "weight_hh_l0")
        agree(theirs, ours)

    def test_spectral_norm(self, kind):
        theirs, ours = pair(kind, 2, 4)
        for layer in (theirs, ours):
            torch.manual_seed(1)
            parametrizations.spectral_norm(layer, "weight_hh_l0").eval()
        agree(theirs, ours)
        ours.train()
        before = ours.parametrizations.weight_hh_l0[0]._u.clone()
        ours(X)
        assert not torch.equal(before, ours.parametrizations.weight_hh_l0[0]._u)

    def test_pruning(self, kind):
        theirs, ours = pair(kind, 2, 4)
        for layer in (theirs, ours):
            prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
        agree(theirs, ours)

    def test_tied_weights(self, kind):
        theirs, ours = pair(kind, 4, 4, 2)
        for layer in (theirs, ours):
            layer.weight_hh_l0 = layer.weight_ih_l0
            layer.weight_hh_l1 = layer.weight_ih_l0
        agree(theirs, ours, torch.randn(3, 2, 4, dtype=torch.float64))

    def test_a_parametrised_cell(self):
        theirs, ours = pair("GRUCell", 2, 4)
        for cell in (theirs, ours):
            parametrize.register_parametrization(cell, "weight_hh", Symmetric())
        same([ours(X[0])], [theirs(X[0])])


class TestFunctions:
    def test_functional_call(self, kind):
        theirs, ours = pair(kind, 2, 4, 2)
        other = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
        before = parts(ours(X))
        same(parts(functional_call(ours, other, (X,))), parts(functional_call(theirs, other, (X,))))
        same(parts(ours(X)), before, 0)
        single = {name: p.float() for name, p in other.items()}
        assert functional_call(ours, single, (X.float(),))[0].dtype == torch.float32

    def test_vmap(self, kind):
        _, ours = pair(kind, 2, 4, 2, bidirectional=True)
        rows = vmap(lambda x: ours(x)[0], in_dims=1, out_dims=1)(X)
        same([rows], [ours(X)[0]])
        with counter(seed=1):
            ours.dropout = 0.5
            assert vmap(lambda x: ours(x)[0], in_dims=1, out_dims=1)(X).shape == rows.shape

    def test_gradients_of_each_sample(self, kind):
        _, ours = pair(kind, 2, 4)
        weights = dict(ours.named_parameters())

        def loss(weights, x):
            return functional_call(ours, weights, (x,))[0].square().sum()

        each = vmap(grad(loss), in_dims=(None, 1))(weights, X)
        for row in range(X.shape[1]):
            alone = torch.autograd.grad(ours(X[:, row])[0].square().sum(), [*ours.parameters()])
            same([each[name][row] for name in weights], alone)

    def test_forward_mode(self, kind):
        theirs, ours = pair(kind, 2, 4)
        direction = torch.randn_like(X)
        _, tangent = jvp(lambda x: ours(x)[0], (X,), (direction,))
        step = 1e-6 * direction
        expected = (theirs(X + step)[0] - theirs(X - step)[0]) / 2e-6
        torch.testing.assert_close(tangent, expected, rtol=0, atol=1e-8)
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(ours(forward_ad.make_dual(X, direction))[0])
        same([dual.tangent], [tangent])

    def test_hessian(self, kind):
        _, ours = pair(kind, 2, 2)
        matrix = hessian(lambda x: ours(x)[0].sin().sum())(X[:, :1]).reshape(8, 8)
        assert matrix.abs().max() > 0
        same([matrix], [matrix.T])

    @pytest.mark.parametrize("lengths", [None, [2, 3]])
    def test_second_derivatives(self, kind, lengths):
        _, ours = pair(kind, 2, 3, bidirectional=True)
        lengths = None if lengths is None else torch.tensor(lengths)
        names = [name for name, _ in ours.named_parameters()]
        x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
        states = states_for(ours, 2, requires_grad=True)
        pairs = isinstance(states, tuple)

        def run(x, *rest):
            hx, weights = (rest[:2], rest[2:]) if pairs else (rest[0], rest[1:])
            given = dict(zip(names, weights, strict=True))
            return (*parts(functional_call(ours, given, (x, hx), {"lengths": lengths})),)

        given = (x, *(states if pairs else (states,)), *ours.parameters())
        assert torch.autograd.gradcheck(run, given, check_forward_ad=True, fast_mode=True)
        assert torch.autograd.gradgradcheck(run, given, fast_mode=True)

    def test_second_derivatives_of_packed_sequences(self, kind):
        theirs, ours = pair(kind, 2, 3)
        outcomes = []
        for layer in (theirs, ours):
            x = X.clone().requires_grad_()
            packed = pack_padded_sequence(x, torch.tensor([2, 4, 1]), enforce_sorted=False)
            (first,) = torch.autograd.grad(
                layer(packed)[0].data.square().sum(), x, create_graph=True
            )
            outcomes.append(torch.autograd.grad(first.square().sum(), [x, *layer.parameters()]))
        same(*outcomes)

    def test_hooks(self, kind):
        _, ours = pair(kind, 2, 4)
        seen = []
        ours.register_forward_pre_hook(lambda m, args: seen.append("before"))
        ours.register_forward_hook(lambda m, args, result: (result[0] * 2, result[1]))
        ours.register_full_backward_hook(lambda m, gave, got: seen.append("backward"))
        ours.weight_hh_l0.register_hook(lambda g: g * 0)
        x = X.clone().requires_grad_()
        y, _ = ours(x)
        same([y], [2 * ours.forward(x)[0]])
        y.sum().backward()
        assert seen == ["before", "backward"]
        assert not ours.weight_hh_l0.grad.any()

    def test_threads(self, kind):
        theirs, ours = pair(kind, 2, 4)
        inputs = [torch.randn(6, 2, 2, dtype=torch.float64) for _ in range(24)]
        with torch.no_grad():
            expected = [theirs(x)[0] for x in inputs]

            def run(x):
                with torch.no_grad():
                    return ours(x)[0]

            with ThreadPoolExecutor(4) as pool:
                same(pool.map(run, inputs), expected)


class Model(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.read = nn.LazyLinear(2, dtype=torch.float64)
        self(X)

    def forward(self, x):
        y, _ = self.layer(x)
        return self.read(y)


class TestCompilers:
    @pytest.fixture(autouse=True)
    def _fresh(self):
        torch.compiler.reset()

    def test_compile(self, kind):
        _, ours = pair(kind, 2, 4, 2, bidirectional=True, dropout=0.5)
        model = Model(ours)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        outcomes = []
        for run in (model, compiled):
            torch.manual_seed(1)
            y = run(X[:2])
            outcomes.append([y, *torch.autograd.grad(y.square().sum(), [*model.parameters()])])
        same(*outcomes)

    def test_compile_for_any_batch(self, kind):
        _, ours = pair(kind, 2, 4)
        run = torch.compile(ours, fullgraph=True, backend="eager", dynamic=True)
        for rows in (2, 3, 5):
            x = torch.randn(3, rows, 2, dtype=torch.float64)
            same(parts(run(x, states := states_for(ours, rows))), parts(ours(x, states)))

    def test_compile_a_copy(self, kind):
        _, ours = pair(kind, 2, 4)
        for other in (pickle.loads(pickle.dumps(ours)), ur.convert(pair(kind, 2, 4)[0])):
            same(parts(torch.compile(other, fullgraph=True, backend="eager")(X)), parts(ours(X)))

    @pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
    def test_compile_cells(self, name):
        _, cell = pair(name, 2, 4)
        run = torch.compile(cell, fullgraph=True, backend="eager")
        result, expected = run(X[0]), cell(X[0])
        same(*(r if name == "LSTMCell" else (r,) for r in (result, expected)))

    def test_compile_recurrent(self):
        net = ur.Recurrent(ur.cells.LSTM(2, 4), 2, bidirectional=True).double()
        y, states = torch.compile(net, fullgraph=True, backend="eager")(X)
        expected, last = net(X)
        same([y, *states.values()], [expected, *last.values()])

    @pytest.mark.parametrize(
        ("kind", "strict"), [("RNN", False), ("LSTM", False), ("LSTM", True), ("GRU", False)]
    )
    def test_export(self, kind, strict):
        _, ours = pair(kind, 2, 4, bidirectional=True, batch_first=True)
        shapes = ({0: torch.export.Dim("rows")},)
        program = torch.export.export(ours.eval(), (X,), dynamic_shapes=shapes, strict=strict)
        more = torch.randn(7, 3, 2, dtype=torch.float64)
        same(parts(program.module()(more)), parts(ours(more)))

    def test_the_loop_stays_one_operation(self, kind):
        _, ours = pair(kind, 2, 4, 2, bidirectional=True)
        counted = []

        def backend(graph, _):
            loop = torch.ops.unrolled.loop_forward
            counted.append(sum(node.target is loop for node in graph.graph.nodes))
            return graph.forward

        run = torch.compile(ours, fullgraph=True, backend=backend)
        for steps, rows in ((4, 3), (5, 2), (7, 6), (9, 5)):
            x = torch.randn(steps, rows, 2, dtype=torch.float64)
            same(parts(run(x)), parts(ours(x)), 0)
        assert counted == [4] * (
            2 if native.available() else 0
        )  # at first for one shape, then for all

    def test_gradients_and_lengths_of_a_compiled_layer(self, kind):
        _, ours = pair(kind, 2, 4, 2, bidirectional=True)
        run = torch.compile(ours, fullgraph=True, backend="aot_eager", dynamic=True)
        for lengths in (None, torch.tensor([2, 4, 0]), torch.tensor([0, 0, 0])):
            outcomes = []
            for layer in (ours, run):
                x = X.clone().requires_grad_()
                results = parts(layer(x, lengths=lengths))
                outcomes.append([*results, *gradients(results, [x, *ours.parameters()])])
            same(*outcomes)

    def test_transforms_inside_and_around(self, kind):
        _, ours = pair(kind, 2, 4)
        ones = torch.ones_like(X)

        def tangent(x):
            return jvp(lambda x: ours(x)[0], (x,), (ones,))[1]

        def rows(x):
            return vmap(lambda x: ours(x)[0], in_dims=1, out_dims=1)(x)

        for function in (tangent, rows):
            run = torch.compile(function, fullgraph=True, backend="eager")
            same([run(X)], [function(X)])
        run = torch.compile(lambda x: ours(x)[0], fullgraph=True, backend="eager")
        run(X)
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode"):
            run(forward_ad.make_dual(X, ones))

    def test_second_derivatives_of_a_compiled_layer(self, kind):
        _, ours = pair(kind, 2, 4)
        outcomes = []
        for layer in (ours, torch.compile(ours, fullgraph=True, backend="eager")):
            x = X.clone().requires_grad_()
            (first,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
            outcomes.append(torch.autograd.grad(first.square().sum(), [x, *ours.parameters()]))
        same(*outcomes)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_trace(self, kind):
        _, ours = pair(kind, 2, 4)
        program = torch.jit.trace(ours.eval(), X, check_trace=False)
        other = torch.randn_like(X)
        same(parts(program(other)), parts(ours(other)))
