"""Encoder and decoder: all at once and step by step, rows by themselves, what does not go together."""

import itertools

import pytest
import torch

from unrolled.engine.randomness import counter
from unrolled.errors import InputError
from unrolled.layers.encoder_decoder import Decoder, Encoder, EncoderDecoder
from unrolled.settings import DecoderSettings, ModelSettings
from unrolled.tasks.decoding import beam_search, rows_of

KINDS = ["none", "additive", "dot", "general", "hard", "top-k"]
LENGTHS = torch.tensor([5, 2, 7])


def make(size=6, own=None, **model):
    torch.manual_seed(0)
    settings = ModelSettings(
        **{"hidden": 8, "embedding": 4, "bidirectional": True, "dtype": "float64", **model}
    )
    decoder = DecoderSettings(**(own or {}))
    encoder = Encoder(9, settings)
    built = Decoder(size, settings, decoder, encoder.summary_size, encoder.width)
    return EncoderDecoder(encoder, built).double().eval()


def inputs(lengths=LENGTHS):
    torch.manual_seed(1)
    return torch.randint(9, (7, len(lengths))), lengths


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize(
    "model", [{}, {"cell": "gru", "layers": 2, "tied": True}, {"cell": "skip"}], ids=str
)
def test_all_at_once_is_step_by_step(model, attention, feeding):
    if attention == "none" and feeding:
        pytest.skip("there is nothing to feed")
    net = make(own={"attention": attention, "input_feeding": feeding}, **model)
    ids = torch.randint(6, (5, 3))
    whole = net.decoder(ids, net.read(inputs()))
    states = net.read(inputs())
    for t in range(5):
        step = net.decoder(ids[t : t + 1], states)
        states = step.states
        torch.testing.assert_close(step.logits[0], whole.logits[t], rtol=0, atol=1e-12)
        if attention != "none":
            torch.testing.assert_close(step.weights[0], whole.weights[t], rtol=0, atol=1e-12)
    assert torch.equal(net(inputs(), ids), whole.logits)


@pytest.mark.parametrize("own", [{}, {"input_feeding": True}, {"attention": "none"}], ids=str)
def test_a_row_alone_is_the_row_in_a_batch(own):
    net, ids = make(own=own), torch.randint(6, (4, 3))
    read, lengths = inputs()
    whole = net((read, lengths), ids)
    for row, n in enumerate(lengths.tolist()):
        alone = net((read[:n, [row]], lengths[[row]]), ids[:, [row]])
        torch.testing.assert_close(alone[:, 0], whole[:, row], rtol=0, atol=1e-12)


def test_what_it_chose_itself_is_read_where_nothing_is_told():
    net = make(own={"teacher_forcing": 0.0})
    ids = torch.randint(6, (6, 3))
    with counter(0):
        found = net.decoder(ids, net.read(inputs()), told=0.0).logits
        half = net.decoder(ids, net.read(inputs()), told=0.5).logits
    own = torch.cat([ids[:1], found.argmax(-1)[:-1]])
    again = net.decoder(own, net.read(inputs())).logits
    torch.testing.assert_close(found, again, rtol=0, atol=1e-12)
    assert not torch.equal(half, found)
    with counter(0):
        true = net.decoder(ids, net.read(inputs()), told=1.0).logits
    assert torch.equal(true, net(inputs(), ids))
    assert not torch.equal(half, true)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("own", [{}, {"input_feeding": True}], ids=str)
def test_a_wide_beam_finds_what_brute_force_does(own, penalty):
    size, length, end = 4, 4, 3
    net = make(size, own)
    states = net.read(inputs())

    def step(ids, states):
        said = net.decoder(ids[None], states)
        return said.logits[0], said.states

    with torch.no_grad():
        first = step(torch.full((3,), end), states)
        found = beam_search(
            step,
            *first,
            width=size**length,
            length=length,
            ended=lambda ids: ids[-1] == end,
            penalty=penalty,
        )
        for row in range(3):
            scores = {}
            for ids in itertools.product(range(size), repeat=length):
                if end in ids[:-1] and set(ids[ids.index(end) :]) != {end}:
                    continue
                ids = ids[: ids.index(end) + 1] if end in ids else ids
                before = torch.tensor([end, *ids[:-1]])[:, None]
                told = net.decoder(before, rows_of(states, [row])).logits.log_softmax(-1)
                total = sum(told[t, 0, i] for t, i in enumerate(ids))
                scores[ids] = float(total) / len(ids) ** penalty
            assert tuple(found[row]) == max(scores, key=scores.__getitem__)


def test_another_cell_writes():
    net = make(own={"decoder_cell": "gru"})
    assert type(net.encoder.net.cell).__name__ != type(net.decoder.net.cell).__name__
    assert net(inputs(), torch.randint(6, (2, 3))).shape == (2, 3, 6)


def test_dropout_drops_only_while_training():
    net, ids = make(dropout=0.5), torch.randint(6, (4, 3))
    assert torch.equal(net(inputs(), ids), net(inputs(), ids))
    net.train()
    with counter(0, 1):
        one = net(inputs(), ids)
    with counter(0, 2):
        assert not torch.equal(net(inputs(), ids), one)


@pytest.mark.parametrize(
    ("model", "own", "words"),
    [
        ({"hidden": 7}, {}, "--hidden 7 must be even"),
        ({}, {"attention": "none", "input_feeding": True}, "give --attention"),
        ({}, {"decoder_cell": "mine.py:Cell"}, "--decoder-cell takes a registered name"),
        ({}, {"decoder_cell": "nothing"}, "no cell 'nothing'"),
        ({"embedding": 0, "tied": True}, {}, "--tied needs an embedding"),
        ({"cell": "convlstm"}, {}, "convlstm"),
    ],
)
def test_what_does_not_go_together(model, own, words):
    with pytest.raises(InputError, match=words):
        make(own=own, **model)


def test_dot_attention_compares_vectors_of_one_width():
    with pytest.raises(InputError, match=r"--attention dot: .*take general"):
        Decoder(5, ModelSettings(hidden=8), DecoderSettings(attention="dot"), 8, 6)
