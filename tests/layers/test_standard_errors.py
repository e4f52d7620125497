"""What torch.nn refuses we refuse, with the same exception and the same words."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import unrolled as ur


def failure(call, *args):
    """The type and words of the exception a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is compared
        call(*args)
    return type(caught.value), str(caught.value)


def failures(call):
    """The exceptions that a call raises with our classes and with torch.nn's."""
    return failure(call, ur), failure(call, nn)


def states(kind, *shape, dtype=torch.float32, device="cpu"):
    h = torch.zeros(shape, dtype=dtype, device=device)
    return (h, h) if kind.startswith("LSTM") else h


ARGUMENTS = [
    ((0, 4), {}),
    ((3, 0), {}),
    ((3, -1), {}),
    ((3.5, 4), {}),
    ((3, "4"), {}),
    ((3, 4, 0), {}),
    ((3, 4), {"dropout": 1.5}),
    ((3, 4), {"dropout": -0.1}),
    ((3, 4), {"dropout": True}),
    ((3, 4), {"bias": 1}),
    ((3, 4), {"batch_first": 1}),
    ((3, 4), {"proj_size": -1}),
    ((3, 4), {"proj_size": 4}),
    ((3, 4), {"proj_size": 0, "num_layers": 0}),
]


@pytest.mark.parametrize(("args", "kwargs"), ARGUMENTS)
def test_arguments(kind, args, kwargs):
    ours, theirs = failures(lambda home: getattr(home, kind)(*args, **kwargs))
    assert ours == theirs


def test_unknown_arguments(kind):
    ours, theirs = failures(lambda home: getattr(home, kind)(3, 4, depth=2))
    assert ours[0] is theirs[0] is TypeError
    assert "depth" in ours[1]


def test_nonlinearity():
    for build in (
        lambda home: home.RNN(3, 4, nonlinearity="sigmoid"),
        lambda home: home.RNNCell(3, 4, nonlinearity="sigmoid")(torch.zeros(2, 3)),
    ):
        ours, theirs = failures(build)
        assert ours == theirs


def test_dropout_without_a_layer_above_is_warned_of(kind):
    for home in (ur, nn):
        with pytest.warns(UserWarning, match="num_layers greater than 1"):
            getattr(home, kind)(3, 4, dropout=0.5)


X = torch.zeros(5, 2, 3)
INPUTS = {
    "one dimension": lambda k: (torch.zeros(3),),
    "four dimensions": lambda k: (torch.zeros(1, 5, 2, 3),),
    "too wide": lambda k: (torch.zeros(5, 2, 4),),
    "too wide, a row alone": lambda k: (torch.zeros(5, 4),),
    "no steps": lambda k: (torch.zeros(0, 2, 3),),
    "double": lambda k: (X.double(),),
    "integers": lambda k: (X.long(),),
    "not a tensor": lambda k: ([1, 2],),
    "nothing": lambda k: (None,),
    "elsewhere": lambda k: (X.to("meta"),),
    "state of two dimensions": lambda k: (X, states(k, 2, 4)),
    "state of three dimensions, a row alone": lambda k: (X[:, 0], states(k, 2, 1, 4)),
    "state of other rows": lambda k: (X, states(k, 2, 3, 4)),
    "state of other layers": lambda k: (X, states(k, 1, 2, 4)),
    "state of other width": lambda k: (X, states(k, 2, 2, 5)),
    "state elsewhere": lambda k: (X, states(k, 2, 2, 4, device="meta")),
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs(kind, case):
    ours, theirs = failures(lambda home: getattr(home, kind)(3, 4, 2)(*INPUTS[case](kind)))
    assert ours == theirs


@pytest.mark.parametrize("width", [2, 4])
def test_projected_states(width):
    given = (torch.zeros(2, 2, width), torch.zeros(2, 2, width))
    ours, theirs = failures(lambda home: home.LSTM(3, 4, 2, proj_size=2)(X, given))
    assert ours == theirs


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_states_of_another_dtype(kind, dtype):
    # torch names a matrix product deep inside, or oneDNN; we name the tensors.
    call = (X, states(kind, 2, 2, 4, dtype=dtype))
    ours, theirs = failures(lambda home: getattr(home, kind)(3, 4, 2)(*call))
    assert ours[0] is theirs[0] is RuntimeError
    assert "found input tensor with torch.float32 and hidden tensor with" in ours[1]


def test_the_number_of_states():
    with pytest.raises(RuntimeError, match="lstm expects two hidden states"):
        ur.LSTM(3, 4)(X, [torch.zeros(1, 2, 4)] * 3)
    with pytest.raises(RuntimeError, match="lstm_cell expects two hidden states"):
        ur.LSTMCell(3, 4)(X[0], [torch.zeros(2, 4)] * 3)


@pytest.mark.parametrize("name", ["RNN", "GRU"])
def test_a_tuple_where_there_is_one_state(name):
    ours, theirs = failures(lambda home: getattr(home, name)(3, 4)(X, (torch.zeros(1, 2, 4),)))
    assert ours == theirs


def test_packed_sequences(kind):
    ours, theirs = (getattr(home, kind)(3, 4, 2) for home in (ur, nn))

    def packed(width, dtype=torch.float32):
        return pack_padded_sequence(
            torch.zeros(5, 3, width, dtype=dtype), torch.tensor([2, 5, 3]), enforce_sorted=False
        )

    for call in ((packed(4),), (packed(3), states(kind, 2, 2, 4))):
        assert failure(ours, *call)[0] is failure(theirs, *call)[0] is RuntimeError
    with pytest.raises(ValueError, match="does not match weight dtype"):
        ours(packed(3, torch.float64))
    with pytest.raises(ValueError, match="knows its lengths"):
        ours(packed(3), lengths=torch.tensor([1, 1, 1]))
    with pytest.raises(RuntimeError, match="must have 2 dimensions, got 3"):
        ours(packed(3)._replace(data=torch.zeros(10, 3, 1)))


@pytest.mark.parametrize("sizes", [[2, 3], [4, 2], [5, 0], [3, 2, 1], [-1, 6]])
def test_packed_sequences_whose_parts_do_not_fit(sizes):
    sequence = PackedSequence(torch.zeros(5, 3), torch.tensor(sizes))
    for net in (ur.GRU(3, 4), ur.Recurrent(ur.GRUCell(3, 4))):
        with pytest.raises(ValueError, match=r"of 5 rows cannot have batch_sizes \["):
            net(sequence)


@pytest.mark.parametrize(
    ("x", "lengths", "words"),
    [
        (X, [1], "2 integers"),
        (X, [6, 1], "between 0 and 5"),
        (X, [-1, 1], "from -1 to 1"),
        (X, [1.0, 2.0], "integers"),
        (X[:, 0], [5], "a row alone"),
    ],
)
def test_lengths(kind, x, lengths, words):
    with pytest.raises(ValueError, match=words):
        getattr(ur, kind)(3, 4)(x, lengths=torch.tensor(lengths))


CELL_INPUTS = {
    "three dimensions": lambda k: (X,),
    "too wide": lambda k: (torch.zeros(2, 5),),
    "too wide, a row alone": lambda k: (torch.zeros(5),),
    "state of three dimensions": lambda k: (X[0], states(k, 1, 2, 4)),
    "state of other rows": lambda k: (X[0], states(k, 3, 4)),
    "state of other width": lambda k: (X[0], states(k, 2, 5)),
    "state of one dimension": lambda k: (X[0], states(k, 4)),
    "state of two dimensions, a row alone": lambda k: (X[0, 0], states(k, 1, 4)),
    "not a tensor": lambda k: (None,),
}


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("case", CELL_INPUTS)
def test_cells(name, case):
    ours, theirs = failures(lambda home: getattr(home, name)(3, 4)(*CELL_INPUTS[case](name)))
    assert ours == theirs


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_and_dtypes(name):
    ours, theirs = (getattr(home, name)(3, 4) for home in (ur, nn))
    double = states(name, 2, 4, dtype=torch.float64)
    for call in ((X[0].double(),), (X[0].long(),), (X[0], double)):
        assert failure(ours, *call)[0] is failure(theirs, *call)[0] is RuntimeError
        assert "not the same dtype" in failure(ours, *call)[1]


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_documented(name):
    ours = getattr(ur, name)
    assert {"device", "dtype"} <= set(inspect.signature(ours).parameters)
    assert "Args:" in (ours.__doc__ or "")
    assert "Args:" in (ours.forward.__doc__ or "")
