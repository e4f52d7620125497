"""`train`, `sample`, `predict` and `evaluate` on real, tiny models."""

import io
import json
import shlex
import sys

import pytest
from command_line import TEXT, TINY, cli  # noqa: F401 - a fixture

from unrolled.cli import main


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "fox.txt"
    path.write_text(TEXT, "utf-8")
    return path


def trained(directory, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["train", *map(str, arguments), *TINY, "--out", str(directory), "--quiet"])
    assert not exit_.value.code
    return directory


@pytest.fixture(scope="module")
def model(tmp_path_factory, text):
    return trained(tmp_path_factory.mktemp("runs") / "fox", "generate", text)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.tsv"
    rows = [f"{word * n}\t{word}" for n in range(1, 31) for word in ("ab", "cd")]
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, labels):
    return trained(tmp_path_factory.mktemp("runs") / "labels", "classify", labels)


# ---------------------------------------------------------------- train


def test_train_reports_on_standard_error_and_sums_up_on_standard_output(cli, text, tmp_path):  # noqa: F811
    out = tmp_path / "run"
    done = cli("train", "generate", text, *TINY, "--out", out)
    assert done.code == 0
    assert done.err.startswith("generate: 1 x 12 lstm, ")
    assert "step 0  sample:" in done.err
    assert "step 3  validation: " in done.err
    assert "step 6/6  loss " in done.err
    assert "6 updates, in 0:0" in done.out
    assert "5-gram" in done.out
    assert f"picture  {out / 'loss.png'}" in done.out
    assert (out / "loss.png").exists()


def test_the_commands_to_try_next_work(cli, text, tmp_path):  # noqa: F811
    done = cli("train", "generate", text, *TINY, "--out", tmp_path / "a run")
    commands = done.out.split("Try next:\n")[1].splitlines()
    assert len(commands) == 3
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "unrolled"
        assert cli(*arguments).code == 0


def test_train_json_is_all_there_is_on_standard_output(cli, text, tmp_path):  # noqa: F811
    done = cli("train", "generate", text, *TINY, "--json", "--out", tmp_path / "run")
    events = [json.loads(line) for line in done.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert done.err == ""
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert set(kinds) == {"start", "step", "evaluation", "sample", "checkpoint", "end"}
    assert events[0]["settings"]["model"]["hidden"] == 12
    assert events[0]["unit"] == "characters"
    step = [event for event in events if event["event"] == "step"][-1]
    assert step["step"] == 6
    assert step["bits_per_character"] > 0
    assert events[-1]["metrics"]["test"]["bits_per_character"] > 0
    assert events[-1]["directory"] == str(tmp_path / "run")


def test_quiet_says_nothing(cli, text, tmp_path):  # noqa: F811
    done = cli("train", "generate", text, *TINY, "--quiet", "--out", tmp_path / "run")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_flags_override_a_recipe(cli, text, tmp_path):  # noqa: F811
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'task = "generate"\n[data]\nsource = ["nowhere"]\n[model]\nhidden = 99\nlayers = 2\n',
        "utf-8",
    )
    done = cli("train", recipe, text, *TINY, "--json", "--out", tmp_path / "run")
    settings = json.loads(done.out.splitlines()[0])["settings"]
    assert (settings["model"]["hidden"], settings["model"]["layers"]) == (12, 2)


def test_training_from_standard_input(cli, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    done = cli("train", "generate", "-", *TINY, "--quiet", "--out", tmp_path / "run")
    assert done.code == 0, done.err


def test_tensorboard_files(cli, text, tmp_path):  # noqa: F811
    done = cli("train", "generate", text, *TINY, "--quiet", "--tensorboard", "--out", tmp_path)
    assert done.code == 0
    assert list((tmp_path / "tensorboard").glob("events*"))


# ---------------------------------------------------------------- sample


def test_sample_repeats_the_prompt_and_writes_on(cli, model):  # noqa: F811
    done = cli("sample", model, "--prompt", "the quick", "--length", "30")
    assert done.code == 0
    assert done.out.startswith("the quick")
    assert len(done.out) == len("the quick") + 30 + len("\n")


def test_the_same_seed_gives_the_same_text(cli, model):  # noqa: F811
    first, again, other = (
        cli("sample", model, "--length", "40", "--seed", seed).out for seed in (3, 3, 4)
    )
    assert first == again != other


def test_samples_differ_and_are_told_apart(cli, model):  # noqa: F811
    done = cli("sample", model, "--length", "30", "--samples", "2")
    head, one, two = done.out.partition("--- 2 of 2 ---\n")[0], *done.out.split("---\n")[1:]
    assert head.startswith("--- 1 of 2 ---\n")
    assert one.removesuffix("--- 2 of 2 ") != two


def test_sample_json_is_one_object(cli, model):  # noqa: F811
    done = cli("sample", model, "--prompt", "fox", "--length", "9", "--samples", "2", "--json")
    found = json.loads(done.out)
    assert found["prompt"] == "fox"
    assert [len(sample) for sample in found["samples"]] == [9, 9]


def test_each_way_of_drawing(cli, model):  # noqa: F811
    def text(*arguments):
        return cli("sample", model, "--length", "20", *arguments).out

    greedy = text("--temperature", "0")
    assert text("--top-k", "1") == text("--top-p", "0.0001") == text("--beam", "1") == greedy
    assert text("--temperature", "1") != greedy


def test_text_ends_before_the_stop_text(cli, model):  # noqa: F811
    whole = cli("sample", model, "--length", "60", "--json").out
    (text,) = json.loads(whole)["samples"]
    cut = json.loads(cli("sample", model, "--length", "60", "--stop", text[20:23], "--json").out)
    assert cut["samples"] == [text[: text.index(text[20:23])]]


def test_unknown_symbols_of_a_prompt_can_be_skipped(cli, model):  # noqa: F811
    done = cli("sample", model, "--prompt", "the É fox", "--unknown", "skip", "--length", "5")
    assert done.code == 0
    assert done.out.startswith("the É fox")


def test_text_is_shown_as_it_is_drawn(cli, model, monkeypatch):  # noqa: F811
    seen = []
    monkeypatch.setattr("unrolled.checkpoint.command._stream", seen.append)
    cli("sample", model, "--prompt", "fox", "--length", "12")
    assert seen[0] == "fox"
    assert len(seen) >= 12


def test_a_classifier_writes_no_text(cli, classifier):  # noqa: F811
    done = cli("sample", classifier)
    assert done.code == 2
    assert "predict or evaluate" in done.sentence


def test_a_users_own_cell(cli, text, tmp_path):  # noqa: F811
    cell = tmp_path / "leaky.py"
    cell.write_text(
        "import torch\nimport unrolled as ur\n"
        "class Leaky(ur.Cell):\n"
        "    state_names = ('h',)\n"
        "    def __init__(self, input_size, hidden_size):\n"
        "        super().__init__(input_size, hidden_size)\n"
        "        self.both = torch.nn.Linear(input_size + hidden_size, hidden_size)\n"
        "    def step(self, x, h):\n"
        "        return (0.5 * h + 0.5 * self.both(torch.cat([x, h], -1)).tanh(),)\n"
    )
    out = trained(tmp_path / "run", "generate", text, "--cell", f"{cell}:Leaky")
    assert "--cell" in cli("sample", out).sentence
    assert cli("sample", out, "--cell", f"{cell}:Leaky", "--length", "5").code == 0
    assert cli("evaluate", out, text, "--cell", f"{cell}:Leaky").code == 0


# ---------------------------------------------------------------- evaluate


def test_evaluate_json_holds_what_it_promises(cli, model, text):  # noqa: F811
    found = json.loads(cli("evaluate", model, text, "--json").out)
    assert set(found) == {
        *("nats_per_symbol", "bits_per_character", "perplexity", "symbols", "unknown_symbols"),
        "baselines",
    }
    assert found["symbols"] == len(TEXT)
    assert found["unknown_symbols"] == 0
    assert found["baselines"]["5-gram"]["nats_per_symbol"] < found["nats_per_symbol"]


def test_evaluate_prints_the_baselines_beside(cli, model, text):  # noqa: F811
    lines = cli("evaluate", model, text).out.splitlines()
    assert lines[0].split() == ["nats/symbol", "bits/character", "perplexity"]
    assert [line.split()[0] for line in lines[1:4]] == ["this", "1-gram", "2-gram"]
    assert f"symbols: {len(TEXT):,}" in lines


def test_evaluate_data_in_another_encoding(cli, model, tmp_path):  # noqa: F811
    (tmp_path / "fox16.txt").write_text(TEXT, "utf-16")
    done = cli("evaluate", model, tmp_path / "fox16.txt", "--encoding", "utf-16", "--json")
    assert json.loads(done.out)["unknown_symbols"] == 0


def test_evaluate_a_classifier(cli, classifier, labels):  # noqa: F811
    lines = cli("evaluate", classifier, labels).out.splitlines()
    assert "accuracy" in lines[0]
    assert "examples: 60" in lines
    assert any(line.split()[:1] == ["ab"] for line in lines)


# ---------------------------------------------------------------- predict


def test_predict_labels_each_text(cli, classifier):  # noqa: F811
    done = cli("predict", classifier, "abab", "cdcd")
    first, second = (line.split("\t") for line in done.out.splitlines())
    assert (first[0], second[0]) == ("abab", "cdcd")
    assert {first[1], second[1]} <= {"ab", "cd"}


def test_predict_json_is_one_object(cli, classifier):  # noqa: F811
    (found,) = json.loads(cli("predict", classifier, "abab", "--json").out)["predictions"]
    assert found["text"] == "abab"
    assert sum(found["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("arguments", [("-",), ("--file", "-"), ("--file", "FILE")])
def test_predict_reads_lines(cli, classifier, tmp_path, monkeypatch, arguments):  # noqa: F811
    file = tmp_path / "texts.txt"
    file.write_text("abab\ncdcd\n", "utf-8-sig")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    arguments = [str(file) if word == "FILE" else word for word in arguments]
    found = json.loads(cli("predict", classifier, *arguments, "--json").out)["predictions"]
    assert [each["text"] for each in found] == ["abab", "cdcd"]


def test_a_language_model_predicts_what_follows(cli, model):  # noqa: F811
    (found,) = json.loads(cli("predict", model, "the quick", "--json").out)["predictions"]
    assert found["prompt"] == "the quick"
    assert found["text"]
