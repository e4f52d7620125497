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
BROWSER = Path(__file__).with_name("browser.js")


class Parsed(HTMLParser):
    """Tags of a page, what they point to, and what scripts and styles hold."""

    def __init__(self):
        super().__init__()
        self.tags, self.links = set(), []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.lasttag = tag
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        self.links += [given[name] for name in ("src", "href", "data", "action") if name in given]

    def handle_data(self, data):
        if self.lasttag in self.inside:
            self.inside[self.lasttag].append(data)


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
    read = Parsed()
    read.feed(text)
    assert all(link.startswith("data:image/png;base64,") for link in read.links)
    assert not read.tags & {"link", "iframe", "object", "embed", "base"}
    scripts, styles = "".join(read.inside["script"]), "".join(read.inside["style"])
    assert not re.search(r"fetch|XMLHttpRequest|import\s*\(|WebSocket|sendBeacon", scripts)
    assert not re.search(r"@import|url\(", styles)
    # Where an address stands it is the name of SVG, which nobody opens.
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "color-scheme:light dark" in styles
    dark = styles[styles.index("prefers-color-scheme:dark") :]
    assert all(f"--{name}:" in dark for name in re.findall(r"var\(--(\w+)\)", styles))
    assert all(f"--{name}:" in dark for name in re.findall(r"var\(--(\w+)\)", text))
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


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
def test_charts_are_zoomed_and_read():
    """In place of a browser, as much of one as the script needs."""
    points = [[n, n * n] for n in range(101)]
    chart = {"x": "step", "series": [{"name": "loss", "points": points}]}
    command = ["node", BROWSER, SCRIPT, json.dumps(chart)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["start"] == {"caption": ["loss"], "points": [101]}
    assert told["hover"]["caption"] == ["loss 2500 at step 50"]
    assert 35 < told["zoomed"]["points"][0] < 45  # 0.8 to the fourth power of all
    (moved,) = told["moved"]["caption"]
    assert int(moved.rpartition(" ")[2]) > 55
    assert told["back"]["points"] == [101]
    assert told["picture"] == "translate(-2.5px,-2.5px) scale(1.25)"
    assert told["pictureBack"] == "translate(0px,0px) scale(1)"
