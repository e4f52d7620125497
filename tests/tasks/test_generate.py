"""The language-model task: what it reads, what it scores, what it writes."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import unrolled as ur
from unrolled.errors import InputError, RunError
from unrolled.settings import Settings
from unrolled.tasks.generate import Generate

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 80


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))


def make(tmp_path, text=TEXT, **flags):
    path = tmp_path / "text.txt"
    path.write_text(text, newline="")
    flags = {"source": (str(path),), "batch_size": 4, "window": 10, "hidden": 16} | flags
    return Generate.prepare(Settings.from_flags("generate", flags).with_defaults(Generate.defaults))


def train(task, steps=60):
    model, carry = task.build(), {}
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(steps):
        loss, carry = task.loss(model, task.batch(step, slice(None)), carry)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), loss.item()


def test_the_loss_falls_and_starts_at_ln_v(tmp_path):
    task = make(tmp_path)
    first, _ = task.loss(task.build(), task.batch(0, slice(None)), {})
    assert task.initial_loss == math.log(len(task.vocabulary))
    assert first.item() == pytest.approx(task.initial_loss, abs=0.2)
    _, last = train(task)
    assert last < task.initial_loss / 2
    assert task.progress(1.0)["bits_per_character"] == pytest.approx(1 / math.log(2))


def test_the_sum_over_a_window_is_the_mean_times_its_steps(tmp_path):
    mean, total = make(tmp_path), make(tmp_path, reduction="sum")
    batch = mean.batch(0, slice(None))
    a, _ = mean.loss(mean.build(), batch, {})
    b, _ = total.loss(total.build(), batch, {})
    assert b.item() == pytest.approx(10 * a.item(), rel=1e-6)
    assert total.initial_loss == pytest.approx(10 * mean.initial_loss)
    assert total.progress(b.item()) == pytest.approx(mean.progress(a.item()))


def test_the_state_is_carried_and_dropped_where_the_text_wraps(tmp_path):
    task = make(tmp_path)
    model = task.build()
    _, carry = task.loss(model, task.batch(0, slice(None)), {})
    assert carry["h"].shape == (1, 4, 16)
    assert not carry["h"].requires_grad
    carried, _ = task.loss(model, task.batch(1, slice(None)), carry)
    empty, _ = task.loss(model, task.batch(1, slice(None)), {})
    assert carried.item() != empty.item()
    wrapped = task.batch(task.steps_per_epoch, slice(None))
    assert wrapped.fresh
    again, _ = task.loss(model, wrapped, carry)
    first, _ = task.loss(model, task.batch(0, slice(None)), {})
    assert again.item() == first.item()


@pytest.mark.parametrize("length", [2, 3, 257, 5000])
def test_every_symbol_is_scored_once(tmp_path, length):
    task = make(tmp_path, dtype="float64")
    ids = np.random.default_rng(0).integers(0, len(task.vocabulary), length)

    class Memoryless(torch.nn.Module):  # scores by the last symbol only, so rows need no context
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(2 * (len(task.vocabulary),)).double())

        def forward(self, ids, states=None):
            return self.weight[ids], {}

    model = Memoryless()
    logits = model.weight[torch.from_numpy(ids[:-1])]
    expected = functional.cross_entropy(logits, torch.from_numpy(ids[1:]))
    assert task.texts.nats(model, ids, 300) == pytest.approx(expected.item(), rel=1e-12)


def test_rows_of_a_score_carry_their_state(tmp_path):
    task = make(tmp_path, dtype="float64")
    model = task.build()
    ids = np.random.default_rng(0).integers(0, len(task.vocabulary), 1000)
    x = torch.from_numpy(ids[:-1, None])
    with torch.no_grad():
        logits, _ = model(x)
    expected = functional.cross_entropy(logits[:, 0], torch.from_numpy(ids[1:]))
    assert task.texts.nats(model, ids) == pytest.approx(expected.item(), rel=1e-12)


def test_validate_evaluate_and_baselines_agree(tmp_path):
    task = make(tmp_path, split=(0.8, 0.1, 0.1))
    model, _ = train(task)
    metrics = task.validate(model, "test")
    held_out = tmp_path / "held-out.txt"
    held_out.write_text(TEXT[int(0.9 * len(TEXT)) :], newline="")
    other = task.evaluate(model, [str(held_out)])
    for name in ("nats_per_symbol", "bits_per_character", "perplexity"):
        assert other[name] == pytest.approx(metrics[name], rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["nats_per_symbol"]))
    assert metrics["bits_per_character"] == pytest.approx(metrics["nats_per_symbol"] / math.log(2))
    assert other["symbols"] == 360
    assert other["unknown_symbols"] == 0
    assert set(other["baselines"]) == {f"{n}-gram" for n in range(1, 8)}
    assert other["baselines"] == task.baselines("test")


def test_unknown_symbols_are_scored_and_counted(tmp_path):
    task = make(tmp_path)
    path = tmp_path / "other.txt"
    path.write_text("the Quick é fox" * 3)
    result = task.evaluate(task.build(), [str(path)])
    assert result["unknown_symbols"] == 6
    assert math.isfinite(result["nats_per_symbol"])
    assert all(math.isfinite(b["nats_per_symbol"]) for b in result["baselines"].values())


def test_restored_it_writes_the_same_and_has_no_data(tmp_path):
    task = make(tmp_path)
    model, _ = train(task)
    copy = Generate.restore(task.settings, task.artefacts())
    assert "".join(copy.sample(model, "the ", length=50, seed=3)) == "".join(
        task.sample(model, "the ", length=50, seed=3)
    )
    with pytest.raises(RunError, match="no training data"):
        copy.batch(0, slice(None))


def test_greedy_writing_continues_what_was_learnt(tmp_path):
    task = make(tmp_path)
    model, _ = train(task, 200)
    assert "".join(task.sample(model, "the quick", length=10, temperature=0)) == " brown fox"
    assert task.beam(model, "the quick", length=10, width=4) == " brown fox"
    assert next(task.predict(model, ["the lazy"]))["text"].startswith(" dog.\nthe")


@pytest.mark.parametrize("stop", ["fox", " over the", "o", "zzz"])
def test_writing_ends_before_the_stop_text(tmp_path, stop):
    task = make(tmp_path)
    model, _ = train(task, 200)
    free = "".join(task.sample(model, "the quick", length=40, temperature=0))
    cut = "".join(task.sample(model, "the quick", length=40, temperature=0, stop=stop))
    assert cut == free.split(stop)[0]
    assert free.startswith(task.beam(model, "the quick", length=30, width=1, stop=stop))


def test_samples_depend_on_the_seed_and_their_number(tmp_path):
    task = make(tmp_path)
    model = task.build().eval()

    def text(**options):
        return "".join(task.sample(model, "the", length=30, **options))

    assert text(seed=1) == text(seed=1)
    assert len({text(seed=1), text(seed=2), text(seed=1, sample=1)}) == 3
    assert task.show(model, 0) == task.show(model, 0) != task.show(model, 100)


def test_prompts(tmp_path):
    task = make(tmp_path)
    model = task.build().eval()
    with pytest.raises(InputError, match=r"'Q', 'é', which the model never saw.*--unknown skip"):
        list(task.sample(model, "Qé the"))
    skipped = "".join(task.sample(model, "Qé the", length=9, unknown="skip"))
    assert skipped == "".join(task.sample(model, " the", length=9))
    assert len("".join(task.sample(model, "", length=9))) == 9
    assert "".join(task.sample(model, "the", length=0)) == ""
    with pytest.raises(InputError, match="--length must be 0 or more"):
        task.sample(model, length=-1)
    with pytest.raises(InputError, match="--temperature"):
        task.sample(model, temperature=-0.5)


@pytest.mark.parametrize("symbols", ["character", "byte", "word", "subword"])
def test_all_kinds_of_symbols(tmp_path, symbols):
    text = "Größe wiegt, wer misst: 3 äpfel und 12 Birnen.\n" * 60
    task = make(
        tmp_path,
        text,
        symbols=symbols,
        vocabulary_size=300 if symbols == "subword" else None,
        window=4,
    )
    model, _ = train(task, 150)
    written = "".join(task.sample(model, "Größe", length=12, temperature=0))
    assert (text * 2).startswith("Größe" + written[:-2])
    metrics = task.validate(model, "test")
    assert metrics["bits_per_character"] < 1.5


def test_model_options(tmp_path):
    model = make(tmp_path, embedding=16, tied=True, layers=2, dropout=0.2, cell="gru").build()
    assert model.readout.weight is model.symbols.table.weight
    assert model.net.num_layers == 2
    with pytest.raises(
        InputError, match="--tied needs an embedding as wide as the top layer: --embedding 16"
    ):
        make(tmp_path, tied=True).build()
    small = make(tmp_path, initial_scale=0.01, cell="rnn").build()
    weights = torch.cat([p.flatten() for p in small.parameters() if p.dim() > 1])
    assert float(weights.std().detach()) == pytest.approx(0.01, rel=0.1)
    assert all((p == 0).all() for p in small.parameters() if p.dim() == 1)
    again = make(tmp_path, initial_scale=0.01, cell="rnn").build()
    assert all(
        torch.equal(a, b) for a, b in zip(small.parameters(), again.parameters(), strict=True)
    )


def test_a_text_shorter_than_one_window(tmp_path):
    with pytest.raises(InputError, match=r"too short.*--batch-size or --window"):
        make(tmp_path, "abc" * 10)


@pytest.mark.parametrize("cell", ["lstm", "skip"])
def test_errors_flow_back_further_than_between_two_updates(tmp_path, cell):
    """The windows' gradients are those of ``ur.truncated``, whose rule the paper has."""
    task = make(tmp_path, window=7, stride=3, batch_size=2, hidden=5, dtype="float64", cell=cell)
    model = task.build()
    parameters = [*model.parameters()]
    ids = np.asarray(task.texts.corpus.training.ids)
    rows = ids[: len(ids) // 2 * 2].reshape(2, -1)[:, :14]
    symbols, carry = torch.from_numpy(rows.T.astype(np.int64)), {}
    parts = ur.truncated(lambda ids, states: model(ids, states), symbols[:-1], 3, 7)
    for step, part in zip(range(4), parts, strict=False):
        wanted = functional.cross_entropy(part.y.flatten(0, 1), symbols[1:][part.steps].flatten())
        loss, carry = task.loss(model, task.batch(step, slice(None)), carry)
        torch.testing.assert_close(loss, wanted)
        for a, b in zip(
            torch.autograd.grad(loss, parameters, retain_graph=True),
            torch.autograd.grad(wanted, parameters, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_dropout_of_one_layer_drops_its_output(tmp_path):
    task = make(tmp_path, dropout=0.5, layers=1)
    model = task.build()
    batch = task.batch(0, slice(None))
    noisy, _ = task.loss(model, batch, {})
    again, _ = task.loss(model.eval(), batch, {})
    assert not torch.equal(noisy, again)
    assert torch.equal(again, task.loss(model, batch, {})[0])
