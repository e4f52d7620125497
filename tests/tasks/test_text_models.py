"""Models that read texts: the convolutional one against its definition, what pads a text never seen."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.errors import InputError
from unrolled.layers.convolution import filter_bank
from unrolled.settings import Settings
from unrolled.tasks.text_models import TextBag, TextCNN, text_model


def build(size=11, classes=3, **flags):
    torch.manual_seed(0)
    flags = {"model": "cnn", "dtype": "float64", **flags}
    return text_model(size, classes, Settings.from_flags("classify", flags)).eval()


def batch(*texts):
    lengths = torch.tensor([len(text) for text in texts])
    ids = torch.zeros(int(lengths.max()), len(texts), dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[: len(text), row] = torch.tensor(text)
    return ids, lengths


@pytest.mark.parametrize("width", [50, 300])
@pytest.mark.parametrize("model", ["rnn", "cnn"])
def test_vectors_begin_as_long_whatever_their_width(model, width):
    table = build(size=400, model=model, embedding=width).symbols.table
    assert float(table.weight.detach().norm(dim=1).mean()) == pytest.approx(2.5, rel=0.02)


@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_filter_moves_over_the_vectors_laid_end_to_end(width):
    torch.manual_seed(1)
    x = torch.randn(1, 7, 5, dtype=torch.float64)  # five words, each a vector of 7
    weight = torch.randn(4, 7, width, dtype=torch.float64)
    laid = x.transpose(1, 2).reshape(1, 1, 35)
    flat = weight.transpose(1, 2).reshape(4, 1, 7 * width)
    answers = filter_bank(laid, flat, stride=7)
    assert answers.shape == (1, 4, 5 - width + 1)
    torch.testing.assert_close(filter_bank(x, weight), answers)


def test_five_words_of_seven_give_four_answers_to_two_words():
    model = build(embedding=7, filter_widths=(2,), filters=3)
    (answers,) = model.answers(*batch([1, 2, 3, 4, 5]))
    assert answers.shape == (1, 3, 4)
    table = model.symbols.table.weight
    laid = table[[1, 2, 3, 4, 5]].reshape(1, 1, 35)
    bank = model.banks[0]
    by_hand = filter_bank(laid, bank.weight.transpose(1, 2).reshape(3, 1, 14), bank.bias, stride=7)
    torch.testing.assert_close(answers, by_hand.relu())


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("pooling", ["max", "k-max", "mean"])
def test_logits_by_hand(pooling, wide):
    flags = {"embedding": 4, "filters": 2, "filter_widths": (1, 3), "pooling": pooling, "k": 2}
    model = build(**flags, wide=wide)
    text = [3, 1, 4, 1, 5]
    x = model.symbols.table.weight[text].detach().numpy()
    seen = []
    for bank, width in zip(model.banks, (1, 3), strict=True):
        weight = bank.weight.detach().numpy()
        seen_by = np.pad(x, ((width - 1, width - 1), (0, 0))) if wide else x
        windows = np.stack([seen_by[i : i + width].T for i in range(len(seen_by) - width + 1)])
        found = np.einsum("pdw,fdw->fp", windows, weight) + bank.bias.detach().numpy()[:, None]
        found = np.maximum(found, 0)
        if pooling == "max":
            seen.append(found.max(1))
        elif pooling == "mean":
            seen.append(found.mean(1))
        else:
            places = np.sort(np.argsort(-found, axis=1, kind="stable")[:, :2], axis=1)
            seen.append(np.take_along_axis(found, places, 1).ravel())
    last = model.readout[-1]
    logits = last.weight.detach().numpy() @ np.concatenate(seen) + last.bias.detach().numpy()
    np.testing.assert_allclose(model(*batch(text))[0].detach().numpy(), logits, rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    texts=st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=9), min_size=2, max_size=5),
    pooling=st.sampled_from(["max", "k-max", "mean"]),
    k=st.integers(1, 12),
    wide=st.booleans(),
)
def test_what_pads_a_text_is_never_seen(texts, pooling, k, wide):
    model = build(embedding=3, filters=3, filter_widths=(2, 4), pooling=pooling, k=k, wide=wide)
    with torch.no_grad():  # so that a filter that saw padding would answer with it
        for bank in model.banks:
            bank.bias.fill_(1.0)
            bank.weight.neg_()
        together = model(*batch(*texts))
        assert together.isfinite().all()
        for row, text in enumerate(texts):
            torch.testing.assert_close(model(*batch(text))[0], together[row])


def test_a_text_shorter_than_every_filter_has_one_answer_of_each():
    model = build(embedding=3, filters=2, filter_widths=(4, 5))
    assert [one.shape[-1] for one in model.answers(*batch([1]))] == [2, 1]
    torch.testing.assert_close(model(*batch([1])), model(*batch([1], [2, 3, 4, 5, 6, 7]))[:1])


def test_k_beyond_a_text_counts_zeros():
    model = build(embedding=3, filters=2, filter_widths=(2,), pooling="k-max", k=6)
    ids, lengths = batch([1, 2, 3])
    (answers,) = model.answers(ids, lengths)
    padded = torch.cat([answers.flatten(1).view(1, 2, 2), torch.zeros(1, 2, 4)], -1)
    torch.testing.assert_close(model(ids, lengths), model.readout(padded.flatten(1)))


def test_two_channels_add_up_the_answers_to_both():
    model = build(embedding=3, filters=2, filter_widths=(2,), channels=2)
    torch.testing.assert_close(model.fixed, model.symbols.table.weight)
    assert "fixed" not in dict(model.named_parameters())
    with torch.no_grad():
        model.symbols.table.weight.add_(1.0)
    ids, lengths = batch([1, 2, 3])
    bank = model.banks[0]
    learned = model.symbols.table.weight[[1, 2, 3]].T[None]
    still = model.fixed[[1, 2, 3]].T[None]
    both = filter_bank(learned, bank.weight, bank.bias) + filter_bank(still, bank.weight)
    torch.testing.assert_close(model.answers(ids, lengths)[0], both.relu())


def test_hidden_layers():
    model = build(embedding=3, filters=2, filter_widths=(2,), dense=(6, 5))
    widths = [layer.out_features for layer in model.readout if hasattr(layer, "out_features")]
    assert widths == [6, 5, 3]


def test_a_bag_is_the_share_of_each_symbol():
    model = build(model="bag")
    assert isinstance(model, TextBag)
    scores = model.table.weight
    expected = (2 * scores[4] + scores[1]) / 3
    torch.testing.assert_close(model(*batch([4, 1, 4]))[0], expected)
    torch.testing.assert_close(model(*batch([1, 4, 4]))[0], expected)
    assert not model(*batch([], [1]))[0].any()


def test_ngrams_of_a_bag_know_the_order_of_neighbours():
    model = build(model="bag", ngrams=2)
    one, other, longer = model(*batch([4, 1, 2], [1, 4, 2], [4, 1, 2, 3, 3]))
    assert not torch.allclose(one, other)
    torch.testing.assert_close(model(*batch([4, 1, 2]))[0], one)
    assert not torch.allclose(one, longer)


@pytest.mark.parametrize(
    ("flags", "words"),
    [({"tied": True}, "--tied"), ({"embedding": 0, "channels": 2}, "--channels 2")],
)
def test_what_cannot_be(flags, words):
    with pytest.raises(InputError, match=words):
        build(**flags)


def test_dropout_is_for_training():
    model = build(embedding=3, dropout=0.5)
    assert isinstance(model, TextCNN)
    text = batch([1, 2, 3, 4, 5, 6])
    torch.testing.assert_close(model(*text), model(*text))
    model.train()
    assert not torch.allclose(model(*text), model(*text))
