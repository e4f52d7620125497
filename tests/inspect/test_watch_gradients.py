"""Gradients watched while a model learns: it is told what is right, and the run does not notice."""

import json

import pytest
import torch
from command_line import cli, python  # noqa: F401 - a fixture

import unrolled as ur
from unrolled.inspect.flow_report import gradient_flow, loss_of
from unrolled.inspect.watch_gradients import GradientWatch
from unrolled.train.callbacks import Callback

SHORT = {"steps": 4, "batch_size": 4, "window": 12, "hidden": 6, "sample_length": 0, "threads": 1}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "book.txt"
    path.write_text("to be or not to be, that is the question. " * 40, "utf-8")
    return str(path)


@pytest.mark.parametrize("flags", [{}, {"dropout": 0.3, "layers": 2, "clip_each": 1.0}])
def test_the_run_does_not_notice(book, tmp_path, flags):
    plain = ur.train("generate", book, out=tmp_path / "a", **SHORT, **flags)
    watch = GradientWatch(share=1.0)
    watched = ur.train("generate", book, out=tmp_path / "b", callbacks=[watch], **SHORT, **flags)
    assert [step for step, _ in watch.seen] == [1, 2, 3, 4]
    pairs = zip(plain.model.parameters(), watched.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert (tmp_path / "b" / "gradients.png").exists()


def test_it_sees_what_the_inspector_sees(book, tmp_path):
    class Kept(Callback):
        def on_start(self, event):
            self.start = event

        def on_step(self, event):
            model = self.start.model.eval()
            loss = loss_of(self.start.task, model, 1, event.step - 1)
            self.falls = gradient_flow(model, loss, rows=1).layers[0].norms
            model.train()

    watch, kept = GradientWatch(share=1.0), Kept()
    ur.train("generate", book, out=tmp_path / "a", callbacks=[kept, watch], **SHORT | {"steps": 1})
    last = kept.falls[-1, 1:][::-1]
    assert watch.seen[0][1]["net: layer 0"] == pytest.approx((last / last[0]).tolist(), rel=1e-4)


def test_the_command(book, tmp_path, cli):  # noqa: F811
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in SHORT.items()]
    watching = ["--watch", "gradients", "--cell", "rnn", "--clip-norm", "1e-6"]
    done = cli("train", "generate", book, "--out", tmp_path / "a", *flags, *watching, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    (first, *_) = [event for event in events if event["event"] == "gradients"]
    assert first["layers"]["net: layer 0"]["steps"] == 11
    assert first["clipped"] == 1
    done = cli("train", "generate", book, "--out", tmp_path / "b", *flags, *watching)
    assert "step 1  net: layer 0: the gradient" in done.err
    assert "clipped in 100% of the steps" in done.err


def test_a_model_without_time_is_left_alone(tmp_path):
    watch = GradientWatch()
    short = {k: v for k, v in SHORT.items() if k != "window"}
    ur.train("classify", "digits", model="mlp", out=tmp_path / "a", callbacks=[watch], **short)
    assert not watch.seen
    assert not (tmp_path / "a" / "gradients.png").exists()
