"""Adaptive and sampled softmax of language models: learned in part, judged as a whole."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import unrolled as ur
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.generate import Generate
from unrolled.train import plan
from unrolled.train.whole import through_torch

KINDS = ("adaptive", "sampled")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Words after Zipf, each followed by one of two."""
    random, word, text = np.random.default_rng(0), 0, []
    for _ in range(6000):
        text.append(f"w{word}")
        word = word * 7 % 97 if word % 2 else int(random.zipf(1.3)) % 97
    path = tmp_path_factory.mktemp("data") / "book.txt"
    path.write_text(" ".join(text), "utf-8")
    return path


def prepare(book, softmax, **flags):
    small = {"symbols": "word", "hidden": 16, "batch_size": 8, "vocabulary_size": 60}
    small |= {} if "condition" in flags else {"window": 12}
    if softmax != "sampled":
        flags.pop("samples", None)
    given = {"source": (str(book),), "softmax": softmax, **small, **flags}
    return Generate.prepare(plan.new_run(Settings.from_flags("generate", given)))


@pytest.mark.parametrize("softmax", KINDS)
def test_it_learns_and_is_judged_exactly(book, softmax):
    task = prepare(book, softmax, samples=30)
    model, carry = task.build(), {}
    first, _ = task.loss(model, task.batch(0, slice(0, 8)), {})
    assert 0.3 < first.item() / task.initial_loss < 1.2  # where clusters seem alike, less
    assert task.initial_loss == math.log(61)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before = task.validate(model.eval(), "validation")["perplexity"]
    for step in range(150):
        loss, carry = task.loss(model.train(), task.batch(step, slice(0, 8)), carry)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = task.validate(model.eval(), "validation")
    assert found["perplexity"] < 0.5 * before
    # The same by all scores of all words, read at once.
    ids = torch.from_numpy(task.texts.corpus.validation.ids.astype(np.int64))
    rows = max((len(ids) - 1) // 512, 1)
    assert rows == 1
    with torch.no_grad():
        scores, _ = model(ids[:-1, None])
    nats = functional.cross_entropy(scores[:, 0], ids[1:]).item()
    assert found["perplexity"] == pytest.approx(math.exp(nats), rel=1e-4)


@pytest.mark.parametrize("softmax", KINDS)
@pytest.mark.parametrize("step", [0, 1, 3])
def test_windows_that_overlap(book, softmax, step):
    task = prepare(book, softmax, dtype="float64", samples=100_000, stride=5)
    model = task.build().eval()
    batch = task.batch(step, slice(0, 8))
    found, _ = task.loss(model, batch, {})
    inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets)
    scores = model(inputs)[0][-len(targets) :].flatten(0, 1)
    wanted = functional.cross_entropy(scores, targets.flatten()).item()
    assert found.item() == pytest.approx(wanted, rel=1e-9 if softmax == "adaptive" else 0.02)


def test_memory_of_a_large_vocabulary_is_bounded(book, monkeypatch):
    from unrolled.tasks import language_texts

    task = prepare(book, "adaptive")
    model = task.build().eval()
    before = task.validate(model, "test")
    monkeypatch.setattr(language_texts, "AT_ONCE", 3 * 61)
    seen = []
    model.register_forward_hook(lambda _, given, out: seen.append(out[0].numel()))
    found = task.validate(model, "test")
    assert found["perplexity"] == pytest.approx(before["perplexity"], rel=1e-6)
    assert max(seen) <= 3 * 61


@pytest.mark.parametrize("softmax", KINDS)
def test_a_run_ends_alike_and_writes(book, softmax, tmp_path):
    flags = {"symbols": "word", "hidden": 16, "batch_size": 8, "window": 12, "softmax": softmax}
    for name, steps in (("alone", 6), ("resumed", 3)):
        ur.train("generate", str(book), **flags, steps=steps, evaluate_every=3, out=tmp_path / name)
    trained = ur.train("generate", out=tmp_path / "resumed", steps=6, resume=True)
    alone, resumed = (tmp_path / name / "model.safetensors" for name in ("alone", "resumed"))
    assert alone.read_bytes() == resumed.read_bytes()
    task = trained.task
    assert "".join(task.sample(trained.model, length=5, seed=1))
    assert json.dumps(task.evaluate(trained.model, [str(book)]))
    assert (
        through_torch(task, trained.model, trained.settings.training) == f"the softmax is {softmax}"
    )


@pytest.mark.parametrize("softmax", KINDS)
def test_texts_with_labels(softmax, tmp_path):
    path = tmp_path / "texts.tsv"
    rows = [
        f"{['red', 'green', 'blue'][n % 3]} {n % 5}{' x' * (n % 7)}\t{'ab'[n % 2]}"
        for n in range(80)
    ]
    path.write_text("\n".join(["text\tlabel", *rows]), "utf-8")
    task = prepare(path, softmax, condition="input", dtype="float64", samples=300_000)
    model = task.build()
    batch = task.texts._laid(task.texts._part("training"), range(8))
    assert (batch.targets < 0).any()
    found, _ = task.loss(model, batch, {})
    logits, targets = task.texts._scored(model, batch)
    wanted = functional.cross_entropy(logits, targets, ignore_index=-100).item()
    assert found.item() == pytest.approx(wanted, rel=1e-9 if softmax == "adaptive" else 0.02)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"symbols": "character"}, "--softmax adaptive is for --symbols word"),
        ({"label_smoothing": 0.1}, "--label-smoothing goes with --softmax full"),
        ({"hidden": 8}, "--softmax adaptive: a width of 8 cannot be made 4 times smaller 2 times"),
        ({"cutoffs": (70,)}, "cutoffs must rise below 61"),
        ({"tied": True, "embedding": 16}, "--tied goes with --softmax full or sampled"),
    ],
)
def test_what_does_not_go_together(book, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        prepare(book, "adaptive", **flags).build()


def test_tied_and_sampled(book):
    model = prepare(book, "sampled", tied=True, embedding=16).build()
    assert model.readout.weight is model.symbols.table.weight
