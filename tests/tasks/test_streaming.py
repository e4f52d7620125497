"""Files larger than memory: what is held grows by a few numbers a row, not by the file."""

import tracemalloc

import numpy as np
import pytest

from unrolled.data import read, stored
from unrolled.settings import Settings
from unrolled.tasks import tag_splits
from unrolled.tasks.bag import Bag
from unrolled.tasks.classify import Classify
from unrolled.tasks.tag import Tag

WORDS = [f"{a}{b}{c}" for a in "bdfg" for b in "aeiou" for c in "lmnr"]


def texts(path, rows):
    random = np.random.default_rng(0)
    lines = [f"{n % 2}\t{n} {' '.join(random.choice(WORDS, 400).tolist())}" for n in range(rows)]
    path.write_text("label\ttext\n" + "\n".join(lines), "utf-8")
    return path.stat().st_size


def tagged(path, rows):
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            for word in random.choice(WORDS, 120).tolist():
                file.write(f"{word}\tB-{word[0].upper()}\n")
            file.write("\n")
    return path.stat().st_size


def classify(path):
    settings = Settings.from_flags(
        "classify", {"source": (str(path),), "symbols": "word", "batch_size": 8, "hidden": 4}
    )
    task = Classify.prepare(settings.with_defaults(Classify.defaults_for(settings)))
    assert [len(task.batch(n, slice(None)).labels) for n in range(3)] == [8, 8, 8]
    task.data_digest, task.baselines("validation"), task.validate(task.build(), "validation")


def tag(path):
    settings = Settings.from_flags(
        "tag", {"source": (str(path),), "characters": "none", "batch_size": 8, "hidden": 4}
    )
    task = Tag.prepare(settings.with_defaults(Tag.defaults))
    assert task.batch(2, slice(None)).tags.shape == (120, 8)
    task.data_digest, task.baselines("validation"), task.validate(task.build(), "validation")
    task.evaluate(task.build(), [str(path)])


@pytest.mark.parametrize(
    ("make", "run", "rows"), [(texts, classify, 200), (tagged, tag, 250)], ids=["classify", "tag"]
)
def test_memory_is_bounded(tmp_path, monkeypatch, make, run, rows):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(read, "BLOCK", 1 << 16)
    monkeypatch.setattr(stored, "KEPT", 1 << 16)
    monkeypatch.setattr(tag_splits, "ROWS_AT_ONCE", 16)
    monkeypatch.setitem(Bag.fit.__func__.__kwdefaults__, "cap", 50_000)
    run(_made(tmp_path, make, 60)[0])  # what is imported and kept for ever
    sizes, peaks = [], []
    for count in (rows, 3 * rows):
        path, size = _made(tmp_path, make, count)
        tracemalloc.start()
        run(path)
        sizes.append(size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.25 * (sizes[1] - sizes[0]), (peaks, sizes)
    assert not list((tmp_path / "cache" / "spool").iterdir())


def _made(folder, make, rows):
    path = folder / f"{rows}.tsv"
    return path, make(path, rows)
