"""What units track: planted units are found, parts agree with the model, pages hold what was found."""

import json

import numpy as np
import pytest
import torch
from command_line import cli, python  # noqa: F401 - a fixture
from rich.console import Console
from torch.nn import functional

import unrolled as ur
from unrolled.inspect.activations import activations, by_kind
from unrolled.inspect.decisions import cloze, on_together, share_of_last_words
from unrolled.inspect.predicates import correlations, kinds, predicates, probe
from unrolled.inspect.reading import Reading, read
from unrolled.inspect.unit_health import health_of

LINE = 'He said "to be or not (to be)", and 12 left.\n  then "we went (all) home" again.\n'


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("activations") / "book.txt"
    path.write_text(LINE * 60, "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def model(book, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "book"
    short = {"steps": 60, "batch_size": 8, "window": 40, "sample_length": 0, "threads": 1}
    return ur.train("generate", book, out=out, hidden=16, layers=2, lr=0.01, **short)


def test_predicates_worked_by_hand():
    found = predicates('a "b(c)"\n  D')
    assert found["inside quotes"].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert found["inside brackets"].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert found["position in line"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3]
    assert found["indentation"].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2]
    assert found["position in word"].tolist() == [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
    assert found["after a capital"][-1] == 1
    assert predicates(["ab", ' "c'])["inside quotes"].tolist() == [0, 1]
    assert kinds('a b.\n"9') == [
        *("start of a word", "space", "start of a word", "other signs"),
        *("line end", "quote or bracket", "digit"),
    ]


def planted(noise=0.1):
    """Places with one unit that knows quotes, and indentation spread over many."""
    rng = np.random.default_rng(0)
    facts = {n: f[None] for n, f in predicates(LINE * 20).items()}
    count = facts["indentation"].size
    values = rng.normal(size=(count, 12))
    values[:, 3] = facts["inside quotes"][0] + noise * rng.normal(size=count)
    values[:, 4:] += 0.3 * facts["indentation"][0][:, None]
    return values, facts


def test_planted_units_are_found():
    values, facts = planted()
    found = correlations(values, {n: f[0] for n, f in facts.items()})
    assert np.abs(found["inside quotes"]).argmax() == 3
    want = np.corrcoef(values[:, 7], facts["indentation"][0])[0, 1]
    assert found["indentation"][7] == pytest.approx(want)
    probes = {one.predicate: one for one in probe(values, facts)}
    assert probes["inside quotes"].unit == 3
    assert probes["inside quotes"].local
    assert not probes["indentation"].local
    assert probes["indentation"].linear > probes["indentation"].single + 0.1


def test_health():
    rng = np.random.default_rng(0)
    values = np.tanh(rng.normal(size=(30, 5, 7)))
    values[..., 1] = 0.5
    values[..., 2] = 1.0
    values[0, 0, 2] = 0.5
    values[..., 4] = -values[..., 3]
    values[..., 5] = np.linspace(-0.9, 0.9, 30)[:, None]
    found = health_of("h", values)
    assert (found.dead, found.saturated, found.deaf) == ([1], [2], [5])
    assert [(i, j, round(r, 6)) for i, j, r in found.duplicates] == [(3, 4, -1.0)]
    assert "1 dead (1)" in str(found)


def test_a_reading_is_the_models_own(model, book):
    reading = read(model, book, symbols=500, row=200)
    assert reading.values.shape == (2, 200, 2 * 2 * 16)
    assert reading.names[16] == "layer 0 c 0"
    text = "".join(reading.symbols[0])
    assert text == (LINE * 3)[:200]
    assert "".join(reading.symbols[1]).startswith(("He said", "  then"))
    ids = torch.from_numpy(model.task.vocabulary.encode((LINE * 3)[:201]).astype(np.int64))
    with torch.no_grad():
        logits, last = model.model(ids[:-1, None])
    p = logits[:, 0].softmax(-1).gather(1, ids[1:, None])[:, 0]
    np.testing.assert_allclose(reading.probability[0], p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reading.values[0, -1, 16:32], last["c"][0, 0], atol=1e-5)
    assert reading.guesses[0][0][0][1] >= reading.guesses[0][0][1][1]
    assert reading.facts["inside quotes"][0, 9:28].all()


def test_kinds_add_up_to_the_loss(model, book):
    reading = read(model, book, symbols=400, row=200)
    found = by_kind(reading)
    assert sum(kind.share for kind in found) == pytest.approx(1)
    assert sum(kind.of_loss for kind in found) == pytest.approx(1)
    mean = -np.log(reading.probability[:, :-1]).mean()
    assert sum(kind.share * kind.nats for kind in found) == pytest.approx(mean, rel=1e-5)


def test_the_last_words(model, book):
    reading = read(model, book, symbols=400, row=200)
    found = share_of_last_words(model, reading, places=20)
    assert [k for k, *_ in found] == [0, 1, 2, 3, 5, 10, 20]
    assert found[0][2] == 0
    assert found[-1][2] > 0.8
    assert found[-1][1] < found[0][1]


def test_cloze(model):
    text, answers = 'He said "to be or not ', ["(to be)", "again", "left"]
    found = cloze(model, text, answers)
    assert sum(share for _, share in found) == pytest.approx(1)

    def score(answer):
        ids = model.task.vocabulary.encode(text + answer).astype(np.int64)
        logits = model.model(torch.from_numpy(ids)[:-1, None])[0][:, 0].double()
        nats = functional.cross_entropy(logits, torch.from_numpy(ids)[1:], reduction="none")
        return -float(nats[len(text) - 1 :].detach().sum())

    wanted = torch.tensor([score(answer) for answer, _ in found]).softmax(0)
    assert [share for _, share in found] == pytest.approx(wanted.tolist(), rel=1e-3, abs=1e-9)
    with pytest.raises(ur.InputError, match="at least two answers"):
        cloze(model, text, ["a"])


def test_search():
    values = np.zeros((1, 8, 3))
    values[0, 2:5, 0] = values[0, 3:6, 1] = 1.0
    reading = Reading([list("abcdefgh")], values, ["a", "b", "c"], np.ones((1, 8)), [], {})
    assert on_together(reading, [0, 1]) == [(0, 3, "de")]
    assert on_together(reading, [0]) == [(0, 2, "cde")]
    with pytest.raises(ur.InputError, match="from 0 to 2"):
        on_together(reading, [3])


def test_the_command(model, book, cli):  # noqa: F811
    question = 'He said "|to be|left'
    done = cli(
        *("inspect", model.directory, book, "activations", "--json"),
        *("--together", "1,2", "--cloze", question),
    )
    found = json.loads(done.out)
    assert set(found["cloze"]) == {"to be", "left"}
    assert found["searched"] == [1, 2]
    assert len(found["layers"]) == 4
    page = (model.directory / "activations" / "activations.html").read_text("utf-8")
    assert len(page) < 5_000_000
    assert "http" not in page
    done = cli("inspect", model.directory, book, "activations")
    assert "share of a decision" in done.out
    assert cli("inspect", model.directory, book, "activations", "--together", "x").code == 2


def test_colours_on_a_terminal(model, book):
    found = activations(model, book, symbols=300)
    terminal = Console(force_terminal=True, color_system="truecolor", width=90)
    with terminal.capture() as text:
        terminal.print(found)
    assert "\x1b[" in text.get()


def test_other_tasks_have_their_units_judged(tmp_path, cli):  # noqa: F811
    short = {"steps": 2, "batch_size": 4, "sample_length": 0, "threads": 1, "hidden": 4}
    ur.train("tag", "copying", out=tmp_path / "m", bidirectional=True, **short)
    found = json.loads(cli("inspect", tmp_path / "m", "copying", "activations", "--json").out)
    names = [layer["layer"] for layer in found["layers"]]
    assert names[0] == "net: layer 0, forwards, h"
    assert len(names) == 4
