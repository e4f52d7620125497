"""Which n-grams drive a text CNN: the parts add up to the decision, and the page shows them."""

import json

import pytest
import torch
from rich.console import Console

import unrolled as ur
from unrolled.errors import InputError
from unrolled.inspect.ngrams import ngrams, texts_of

ROWS = [
    *(("a very good film", "pos"), ("good and so", "pos"), ("so good", "pos")),
    *(("a very dull film", "neg"), ("dull and so", "neg"), ("so dull", "neg")),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "films.tsv"
    rows = [(f"{text} {n}", label) for n in range(12) for text, label in ROWS]
    path.write_text("".join(f"{a}\t{b}\n" for a, b in [("text", "label"), *rows]), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def train(source, tmp_path_factory):
    def run(model="cnn", **flags):
        settings = {"model": model, "symbols": "word", "embedding": 8}
        settings |= {"filters": 6, "filter_widths": (1, 2, 3)} if model == "cnn" else {}
        settings |= {"steps": 60, "lr": 0.02, "dtype": "float64", "sample_length": 0, "threads": 1}
        out = tmp_path_factory.mktemp("runs") / "films"
        return ur.train("classify", source, out=out, **{**settings, **flags})

    return run


@pytest.fixture(scope="module")
def films(train):
    return train()


@pytest.mark.parametrize(
    ("pooling", "wide"), [("max", False), ("mean", False), ("k-max", False), ("mean", True)]
)
def test_parts_and_biases_add_up_to_the_decision(train, films, pooling, wide):
    trained = films if pooling == "max" else train(pooling=pooling, wide=wide, steps=5)
    text = "a very good film but dull"
    (decision,) = ngrams(trained, [text]).decisions
    model, examples = trained.model, trained.task.kind
    ids, lengths = map(torch.from_numpy, examples.batch(examples.inputs([text]), None))
    logits = model(ids, lengths)[0].detach()
    bias = model.readout[0].bias.detach()
    best = int(logits.argmax())
    expected = (logits - bias)[best] - (logits - bias)[1 - best]
    assert sum(symbol.value for symbol in decision.symbols) == pytest.approx(float(expected))
    assert decision.label == trained.task.labels[best]
    assert decision.probability == pytest.approx(float(logits.softmax(0)[best]))
    assert "".join(symbol.text for symbol in decision.symbols).strip() == text


def test_the_words_that_decide_are_named(train):
    found = ngrams(train(filter_widths=(1,), steps=150), ["a good film", "a dull film"])
    for decision, word in zip(found.decisions, ("good", "dull"), strict=True):
        assert max(decision.symbols, key=lambda symbol: symbol.value).text.strip() == word
        assert max(decision.phrases, key=lambda phrase: phrase.value).text.strip() == word
        assert len(decision.phrases) <= 5


def test_filters_that_reach_beyond_the_ends_are_told_by_what_is_inside(train):
    found = ngrams(train(filter_widths=(3,), wide=True), ["so good"])
    spans = {phrase.text.strip() for one in found.filters for phrase in one.phrases}
    assert spans <= {"so", "so good", "good"}
    assert sum(symbol.value for symbol in found.decisions[0].symbols)


def test_filters_are_told_by_what_they_answer_to(films, source):
    texts = texts_of(films, source)
    found = ngrams(films, texts, filters=4, phrases=3).filters
    assert len(found) == 4
    for one in found:
        values = [phrase.value for phrase in one.phrases]
        assert values == sorted(values, reverse=True)
        assert len(one.phrases) <= 3
        assert len({phrase.text for phrase in one.phrases}) == len(one.phrases)
        bank = films.model.own.filter_widths.index(one.width)
        examples = films.task.kind
        ids = films.task.kind.vocabulary.encode(one.phrases[0].text)
        batch = map(torch.from_numpy, examples.batch([ids], None))
        answer = films.model.answers(*batch)[bank][0, one.number, 0]
        assert float(answer.detach()) == pytest.approx(values[0])
        assert one.label in ("pos", "neg")


def test_the_page_and_the_terminal_show_it(films, tmp_path):
    found = ngrams(films, ["good <b> film", "dull film"])
    page = found.write(tmp_path / "new").read_text("utf-8")
    assert "rgba(34,139,87,1.00)" in page
    assert "&lt;" in page
    assert "<b> film" not in page
    assert "src=" not in page
    assert "href=" not in page
    console = Console(force_terminal=True, color_system="truecolor", width=100, record=True)
    console.print(found)
    assert "48;2;34;139;87" in console.export_text(styles=True)
    assert json.loads(json.dumps(found.to_dict()))["decisions"][1]["label"] == "neg"


def test_a_text_shorter_than_a_filter(films):
    (decision,) = ngrams(films, ["good"]).decisions
    assert [symbol.text.strip() for symbol in decision.symbols] == ["good"]


def test_other_models_are_refused(train):
    other = train(model="bag", steps=2)
    with pytest.raises(InputError, match="is no text CNN"):
        ngrams(other, ["good"])
    with pytest.raises(InputError, match="is no text CNN"):
        texts_of(other, "nowhere")
