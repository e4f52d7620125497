"""Taggers: every net and read-out, rows alone and side by side, what they can and cannot learn."""

import numpy as np
import pytest
import torch
from plain_loop import learn
from torch.nn import functional

from unrolled.data.tagged import Labels, Numbers, Vectors, Words
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.tag import Tag
from unrolled.tasks.tag_readouts import Linear
from unrolled.tasks.taggers import Spelling, Tagger

LETTERS = Words(list("abx"))
WORDS = Words(["to", "be", "or"], "beort")
SIGNALS = Vectors(["u", "v"], np.zeros(2), np.ones(2))
TAGS = Labels(["A", "B", "C"])
PATH = Numbers(["x", "y"], np.zeros(2), np.ones(2))
NETS = [
    {},
    {"layers": 2, "bidirectional": True},
    {"net": "cnn", "layers": 2},
    {"net": "linear", "lags": 3},
    {"readout": "window", "lags": 3},
    {"readout": "previous"},
    {"readout": "crf"},
]


def settings_of(**flags):
    flags = {"hidden": 4, "embedding": 3, "dtype": "float64", "character_units": 3, **flags}
    return Settings.from_flags("tag", flags)


def tagger(inputs, outputs, **flags):
    torch.manual_seed(0)
    return Tagger(inputs, outputs, settings_of(**flags)).eval()


def draw(inputs, outputs, lengths, seed=0):
    random = np.random.default_rng(seed)
    if isinstance(inputs, Words):
        rows = [random.choice([*inputs.words, "new"], n).tolist() for n in lengths]
    else:
        rows = [random.normal(size=(n, 2)) for n in lengths]
    if isinstance(outputs, Labels):
        tags = [random.choice(outputs.names, n).tolist() for n in lengths]
    else:
        tags = [random.normal(size=(n, 2)) for n in lengths]
    return rows, tags


def batch_of(inputs, outputs, rows, tags):
    given = tuple(map(torch.from_numpy, inputs.inputs(rows)))
    lengths = torch.tensor([len(row) for row in rows])
    return given, lengths, torch.from_numpy(outputs.targets(tags))


@pytest.mark.parametrize("characters", ["cnn", "rnn"])
@pytest.mark.parametrize("flags", NETS, ids=str)
@pytest.mark.parametrize("inputs", [LETTERS, WORDS, SIGNALS], ids=("letters", "words", "vectors"))
@pytest.mark.parametrize("outputs", [TAGS, PATH], ids=("tags", "numbers"))
def test_rows_alone_and_side_by_side(inputs, outputs, flags, characters):
    if "readout" in flags and flags["readout"] == "crf" and outputs is PATH:
        pytest.skip("a CRF tells tags")
    model = tagger(inputs, outputs, characters=characters, **flags)
    rows, tags = draw(inputs, outputs, [5, 1, 3])
    given, lengths, truth = batch_of(inputs, outputs, rows, tags)
    loss, told = model.judge(given, lengths, truth)
    torch.testing.assert_close(loss, model(given, lengths, truth))
    torch.testing.assert_close(told, model.tell(given, lengths))
    total = 0.0
    for row, steps in enumerate(lengths.tolist()):
        alone = batch_of(inputs, outputs, [rows[row]], [tags[row]])
        one, its = model.judge(*alone)
        torch.testing.assert_close(its[:, 0], told[:steps, row], rtol=0, atol=1e-10)
        total += one.item() * steps
    assert total / 9 == pytest.approx(loss.item())


@pytest.mark.parametrize("flags", NETS, ids=str)
def test_every_parameter_learns(flags):
    model = tagger(WORDS, TAGS, **flags).train()
    given = batch_of(WORDS, TAGS, *draw(WORDS, TAGS, [5, 2]))
    model(*given).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    assert still == []


@pytest.mark.parametrize("characters", ["cnn", "rnn"])
def test_spelling_tells_words_apart(characters):
    spelling = Spelling(6, settings_of(characters=characters).tagger).double()
    words = Words([], "abcde")
    _, letters, lengths, which = words.inputs([["abc", "abcd", "cba", "abc"]])
    vectors = spelling(torch.from_numpy(letters), torch.from_numpy(lengths))
    assert which[:, 0].tolist() == [0, 1, 2, 0]
    assert len(vectors) == 3
    assert not torch.allclose(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])
    alone = spelling(torch.from_numpy(letters[:3, :1]), torch.from_numpy(lengths[:1]))
    torch.testing.assert_close(alone[0], vectors[0])


def test_linear_is_its_equation():
    """y_t = W x_t + A_1 y_{t-1} + A_2 y_{t-2} + b, fed truth in training and itself in use."""
    torch.manual_seed(0)
    model = Linear(2, 2, 2, numbers=True).double()
    torch.nn.init.normal_(model.a, std=0.5)
    x, y = torch.randn(4, 1, 2).double(), torch.randn(4, 1, 2).double()
    weight, bias, (first, second) = model.w.weight, model.w.bias, model.a
    truth, own = torch.zeros(2, 2).double(), torch.zeros(2, 2).double()
    error, told = [], []
    for t in range(4):
        scores = weight @ x[t, 0] + bias
        error.append(scores + first @ truth[-1] + second @ truth[-2] - y[t, 0])
        told.append(scores + first @ own[-1] + second @ own[-2])
        truth, own = torch.cat([truth, y[t]]), torch.cat([own, told[-1][None]])
    ends = torch.tensor([4])
    torch.testing.assert_close(model.loss(x, ends, y, 1.0), torch.stack(error).pow(2).mean())
    torch.testing.assert_close(model.tell(x, ends)[:, 0], torch.stack(told))


def test_linear_is_greedy_over_tags():
    torch.manual_seed(0)
    model = Linear(3, 3, 1, numbers=False).double()
    torch.nn.init.normal_(model.a, std=2)
    x = torch.randn(6, 2, 3).double()
    told = model.tell(x, torch.tensor([6, 6]))
    for row in range(2):
        before = torch.zeros(3).double()
        for t in range(6):
            tag = (model.w(x[t, row]) + model.a[0] @ before).argmax()
            assert told[t, row] == tag
            before = functional.one_hot(tag, 3).double()


def test_previous_is_fed_the_truth_or_itself():
    """With probability 0 of the truth the loss is of what is told in use."""
    model = tagger(SIGNALS, PATH, readout="previous")
    given, lengths, truth = batch_of(SIGNALS, PATH, *draw(SIGNALS, PATH, [5, 5]))
    own = functional.mse_loss(model.tell(given, lengths), truth)
    torch.testing.assert_close(model(given, lengths, truth, 0.0), own)
    assert model(given, lengths, truth, 1.0).item() != pytest.approx(own.item())


@pytest.mark.parametrize(
    ("flags", "outputs", "words"),
    [
        ({"readout": "crf"}, PATH, "crf tells tags"),
        ({"net": "linear", "readout": "crf"}, TAGS, "--net linear reads out by itself"),
        ({"tied": True}, TAGS, "--tied"),
    ],
)
def test_what_does_not_go_together(flags, outputs, words):
    with pytest.raises(InputError, match=words):
        tagger(SIGNALS, outputs, **flags)


# ---------------------------------------------------------------- word vectors


def tag_task(tmp_path, **flags):
    rows = "".join(
        f"{word}\t{tag}\n\n" for _ in range(3) for word, tag in (("The", "D"), ("dog", "N"))
    )
    (tmp_path / "t.tsv").write_text(rows * 4, "utf-8")
    (tmp_path / "v.txt").write_text("3 2\nthe 1 2\n<unk> 5 6\nother 7 8\n", "utf-8")
    flags = {"source": (str(tmp_path / "t.tsv"),), "vectors": str(tmp_path / "v.txt"), **flags}
    settings = Settings.from_flags(
        "tag", {"validation": flags["source"], "split": "1,0,0", **flags}
    )
    return Tag.prepare(settings.with_defaults(Tag.defaults))


@pytest.mark.parametrize("frozen", [True, False])
def test_word_vectors_begin_and_stay_if_frozen(tmp_path, frozen):
    task = tag_task(tmp_path, frozen_vectors=frozen, initial_scale=0.1, hidden=4)
    net = task.build()
    table = net.front.symbols.table.weight
    words = task.source.inputs.words
    assert table[words.index("The")].tolist() == [1, 2]
    assert table[-1].tolist() == [5, 6]
    assert table[words.index("dog")].abs().max() <= 3**0.5 * np.std([1, 2, 5, 6])
    assert task.show(net, 0).splitlines()[0].endswith("v.txt has vectors for 2 of 3 symbols")
    assert "vectors" not in task.show(net, 1)
    before = table.detach().clone()
    net = learn(task, 2)
    assert torch.equal(net.front.symbols.table.weight, before) == frozen
    again = Tag.restore(task.settings, task.artefacts()).build()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.front.symbols.table.weight, net.front.symbols.table.weight)


def test_vectors_that_do_not_fit(tmp_path):
    with pytest.raises(InputError, match=r"vectors of 2 numbers; leave out --embedding 5"):
        tag_task(tmp_path, embedding=5)
    with pytest.raises(InputError, match="--frozen-vectors takes --vectors"):
        tag_task(tmp_path, vectors=None, frozen_vectors=True).build()
    (tmp_path / "s.csv").write_text("a,label\n" + "1,x\n2,y\n" * 9, "utf-8")
    with pytest.raises(InputError, match="--vectors is for words, not for vectors"):
        tag_task(tmp_path, source=(str(tmp_path / "s.csv"),), validation=())
