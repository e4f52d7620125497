"""The report: one page, of its own, with charts that hold the figures of the run."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import cli  # noqa: F401

import unrolled as ur
from unrolled.inspect import report as module
from unrolled.inspect.report import BYTES, Report

SCRIPT = Path(module.__file__).with_name("chart.js")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "digits"
    settings = {"hidden": 8, "steps": 40, "evaluate_every": 10, "sample_length": 0}
    ur.train("classify", "digits", model="mlp", out=out, **settings)
    return out


def test_a_report(model, tmp_path, cli):  # noqa: F811
    page = tmp_path / "out.html"
    found = json.loads(cli("inspect", model, "digits", "--report", page, "--json").out)
    text = page.read_text("utf-8")
    assert len(text.encode()) < BYTES
    assert "prefers-color-scheme:dark" in text
    outside = set(re.findall(r"https?://[^\"' )]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not outside
    assert not re.search(r"(src|href)=.(?!data:)", text)
    HTMLParser().feed(text)
    charts = re.findall(r'<script type="application/json">(.*?)</script>', text)
    drawn = [json.loads(chart) for chart in charts]
    assert {series["name"] for series in drawn[0]["series"]} == {"loss", "smoothed loss"}
    accuracy = next(d for d in drawn if d["series"][0]["name"] == "accuracy")
    lines = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    judged = [[e["step"], e["accuracy"]] for e in lines if e["event"] == "validation"]
    assert accuracy["series"][0]["points"] == judged
    assert "What does not apply" in text
    assert "attention is of translate and caption" in text
    assert "cross_entropy" in text
    names = {Path(path).name for path in found["pictures"]}
    assert {"loss.png", "accuracy.png", "weights.png"} <= names
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in found["pictures"])


def test_what_is_too_large_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BYTES", 20_000)
    page = Report("large")
    page.picture("small.png", "small", bytes(100))
    page.picture("large.png", "large", bytes(90_000))
    text = page.save(tmp_path / "page.html").read_text("utf-8")
    assert len(text) < 20_000
    assert text.count("data:image/png") == 1
    assert (tmp_path / "page" / "large.png").exists()


def test_curves_are_thinned():
    page = Report("curves")
    page.chart("a.png", "a", "step", {"a": [(n, n / 2) for n in range(12_345)], "none": []})
    (series,) = json.loads(re.findall(r"json.>(.*?)</script>", page.parts[0])[0])["series"]
    assert len(series["points"]) <= module.POINTS + 1
    assert series["points"][-1] == [12_344, 6172]


def test_it_wants_html(model, tmp_path, cli):  # noqa: F811
    told = cli("inspect", model, "digits", "--report", tmp_path / "out.pdf").sentence
    assert told.endswith("should end with .html")


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
def test_the_script_is_sound():
    done = subprocess.run(["node", "--check", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
