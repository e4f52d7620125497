"""What a run shows: plain lines, a live line, lines of JSON, and the summary."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from unrolled import console
from unrolled.settings import Settings
from unrolled.tasks import Task
from unrolled.train import display
from unrolled.train.callbacks import Checkpoint, End, Evaluation, Sample, Start, Step
from unrolled.train.summary import amount, clock, rate, summary

SETTINGS = Settings.from_flags("generate", {"hidden": 64, "steps": 100})
TASK = SimpleNamespace(
    progress=lambda loss: {"bits_per_character": loss / 0.693}, sample=lambda: None
)
OUT = Path("runs/x")
START = Start(SETTINGS, TASK, OUT, 0, 100, 12345, "characters", 2048, 1)
METRICS = {"nats_per_symbol": 1.5, "bits_per_character": 2.164, "perplexity": 4.48}
BASELINES = {"5-gram": {"nats_per_symbol": 1.7, "bits_per_character": 2.45, "perplexity": 5.47}}
RESULTS = {
    "model_step": 60,
    "held_out": "test",
    "test": METRICS,
    "training": {"loss": 1.4, "smoothed_loss": 1.45},
    "baselines": BASELINES,
}
END = End(100, 100, OUT, RESULTS, 88.4)


def step(number, loss=1.6):
    return Step(number, 100, loss + 0.1, loss, 0.003, None, 3.0, 41234.5, 42.0, TASK)


def evaluation(number, improved=True):
    return Evaluation(
        *(number, 100, METRICS, "nats_per_symbol", improved, 1.5, number, BASELINES, 4.0)
    )


@pytest.fixture
def shown(monkeypatch):
    """What is written to standard error and output, as on a terminal of 80 columns."""
    logs, results = io.StringIO(), io.StringIO()
    options = {"highlight": False, "markup": False, "width": 80, "force_terminal": True}
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console, "logs", lambda: Console(file=logs, **options))
    monkeypatch.setattr(console, "results", lambda: Console(file=results, **options))
    return SimpleNamespace(logs=lambda: plain(logs), results=lambda: plain(results))


def plain(stream):
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue())


def play(receiver):
    """A run of 100 steps that is looked at every 50."""
    receiver.on_start(START)
    receiver.on_sample(Sample(0, 100, "xq zv", 0.0))
    for number in range(1, 101):
        receiver.on_step(step(number))
        if number % 50 == 0:
            receiver.on_evaluate(evaluation(number, improved=number == 50))
            receiver.on_sample(Sample(number, 100, f"the words\nof step {number}", 4.0))
            receiver.on_checkpoint(Checkpoint(number, 100, OUT))
    receiver.on_end(END)
    receiver.close()


def test_plain_lines(shown):
    play(display.PlainDisplay(seconds=60))
    assert [line.rstrip() for line in shown.logs().splitlines()] == [
        "generate: 1 x 64 lstm, 12,345 parameters, 100 updates of 2,048 characters -> runs/x",
        "step 0  sample:",
        "    xq zv",
        "step 50  validation: 1.500 nats/symbol, 2.164 bits/character, perplexity 4.480  best so far",
        "step 50  sample:",
        "    the words",
        "    of step 50",
        "step 100/100  loss 1.600  2.309 bits/character  41k characters/s  0:42 left",
        "step 100  validation: 1.500 nats/symbol, 2.164 bits/character, perplexity 4.480",
    ]


def test_plain_lines_say_that_a_run_is_resumed_and_shared(shown):
    receiver = display.PlainDisplay()
    receiver.on_start(Start(SETTINGS, TASK, OUT, 40, 100, 12345, "characters", 2048, 2))
    first, second = shown.logs().splitlines()
    assert "on 2 processes -> runs/x" in first
    assert second == "resumed at step 40"


@pytest.mark.parametrize(("seconds", "lines"), [(0, 100), (60, 1)])
def test_plain_lines_come_by_the_clock(shown, seconds, lines):
    play(display.PlainDisplay(seconds=seconds))
    assert shown.logs().count(" characters/s ") == lines


def test_the_live_line_fits_a_narrow_terminal(shown):
    play(display.LiveDisplay(seconds=0))
    frames = [line for line in re.split(r"[\r\n]+", shown.logs()) if "characters/s" in line]
    assert all(len(frame) <= 80 for frame in frames)
    assert frames[-1].startswith("100/100 ━")
    assert frames[-1].endswith(" loss 1.600  2.309 bits/character  41k characters/s  0:42 left")


def test_evaluations_and_samples_are_printed_above_the_live_line(shown):
    play(display.LiveDisplay(seconds=0))
    text = shown.logs()
    assert (
        text.index("xq zv") < text.index("1/100 ") < text.index("the words") < text.index("51/100")
    )


def test_the_live_line_gives_the_terminal_back_after_an_error(shown):
    receiver = display.LiveDisplay()
    receiver.on_start(START)
    receiver.close()
    assert not receiver._progress.live.is_started


def test_json_lines(capsys):
    play(display.JsonLines(seconds=60))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == [
        *("start", "sample", "evaluation", "sample", "checkpoint"),
        *("step", "evaluation", "sample", "checkpoint", "end"),
    ]
    start, last_step, end = events[0], events[5], events[-1]
    assert start["settings"]["model"]["hidden"] == 64
    assert start["directory"] == "runs/x"
    assert last_step["step"] == 100
    assert last_step["bits_per_character"] == pytest.approx(1.6 / 0.693)
    assert last_step["gradient_norm"] is None
    assert end["metrics"]["baselines"] == BASELINES


def test_the_summary(shown):
    play(display.PlainDisplay())
    lines = [line.strip() for line in shown.results().splitlines()]
    assert lines[1:7] == [
        "100 updates, in 1:28; kept are the weights of step 60",
        "",
        "On the test split, which training never saw:",
        "nats/symbol  bits/character  perplexity",
        "this model       1.5000          2.1640      4.4800",
        "5-gram           1.7000          2.4500      5.4700",
    ]
    assert lines[7:] == [
        "",
        "Now it gives:",
        "the words",
        "of step 100",
        "",
        "model    runs/x",
        "picture  runs/x/loss.png",
        "",
        "Try next:",
        "unrolled sample runs/x --length 1000 --temperature 0.7",
        "unrolled evaluate runs/x runs/x/README.md",
        "unrolled train generate --out runs/x --resume --steps 200",
    ]


def parts(start=START, end=END):
    return list(map(str, summary(start, end, "")))


def test_the_summary_of_a_run_that_stopped_early():
    assert (
        "70 updates of 100, as there was no more progress"
        in parts(end=End(70, 100, OUT, RESULTS, 1))[0]
    )


def test_the_summary_without_a_held_out_split():
    results = {key: value for key, value in RESULTS.items() if key in ("model_step", "training")}
    assert "\nIn training:" in parts(end=End(100, 100, OUT, results, 1))


def test_the_summary_of_a_recipe_says_whether_its_target_is_reached():
    target = {"metric": "nats_per_symbol", "target": 1.54, "split": "test", "reached": True}
    said = parts(end=End(100, 100, OUT, {**RESULTS, "target": target}, 1))
    assert "\nTarget: 1.540 nats/symbol on the test split, reached." in said


def test_the_next_commands_of_a_task_that_writes_nothing_and_of_an_own_cell():
    settings = Settings.from_flags("classify", {"cell": "my cell.py:Cell"})
    start = Start(settings, SimpleNamespace(examples=Task.examples), OUT, 0, 100, 1, "texts", 8, 1)
    predict, evaluate, resume = parts(start)[-3:]
    assert predict == "  unrolled predict runs/x --cell 'my cell.py:Cell' 'a text of yours'"
    assert evaluate.startswith("  unrolled evaluate runs/x --cell")
    assert resume.endswith("--cell 'my cell.py:Cell' --resume --steps 200")


@pytest.mark.parametrize(
    ("task", "flags"), [("forecast", {}), ("generate", {"condition": "input"})]
)
def test_what_would_be_refused_is_not_told_to_be_tried_next(task, flags):
    settings = Settings.from_flags(task, flags)
    kind = SimpleNamespace(examples=("a.csv", "b.csv"), sample=None)
    start = Start(settings, kind, OUT, 0, 100, 1, "texts", 8, 1)
    asked, judged, _ = parts(start)[-3:]
    assert asked == "  unrolled predict runs/x a.csv"
    assert judged == "  unrolled evaluate runs/x b.csv"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (amount("bits_per_character", 2.2104), "2.210 bits/character"),
        (amount("macro_f1", 0.5), "macro f1 0.500"),
        (rate(940.4, "texts"), "940 texts/s"),
        (rate(1234567, "characters"), "1,235k characters/s"),
        (clock(41.6), "0:42"),
        (clock(3723), "1:02:03"),
    ],
)
def test_figures_are_written_as_people_do(said, text):
    assert said == text
