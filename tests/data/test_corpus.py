"""Corpora: what is mapped is what encoding gives, and the cache is whole or not there."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from unrolled.data import cache, corpus, encode_sources, fit_vocabulary, prepare_corpus, read
from unrolled.errors import InputError, RunError
from unrolled.settings import DataSettings

TEXT = "It was a dark and stormy night; — naïve, isn't it?\r\nThe rain fell.\n" * 40
KINDS = ["character", "byte", "word", "subword"]


@pytest.fixture
def room(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "corpora"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, "utf-8", newline="")
    return DataSettings(source=(str(path),), split=(0.8, 0.1, 0.1))


def parts_of(found):
    return {"training": found.training, "validation": found.validation, "test": found.test}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [7, 1000, 1 << 22])
def test_maps_hold_what_encoding_gives(room, data, monkeypatch, kind, block):
    monkeypatch.setattr(read, "BLOCK", block)
    data = data.model_copy(update={"symbols": kind})
    found, vocabulary = prepare_corpus(data)
    first, second = int(0.8 * len(TEXT)), int((0.8 + 0.1) * len(TEXT))
    texts = (TEXT[:first], TEXT[first:second], TEXT[second:])
    assert vocabulary.to_json() == fit_vocabulary([texts[0]], data).to_json()
    for part, text in zip(parts_of(found).values(), texts, strict=True):
        assert isinstance(part.ids, np.memmap)
        assert part.ids.dtype == vocabulary.dtype
        np.testing.assert_array_equal(part.ids, vocabulary.encode(text))
        assert part.characters == len(text)
        assert len(part) == len(part.ids)
        with pytest.raises(ValueError, match="read-only"):
            part.ids[0] = 0


def test_the_vocabulary_sees_training_text_only(room, tmp_path):
    (tmp_path / "x.txt").write_text("ab" * 45 + "cd" * 5)
    data = DataSettings(source=(str(tmp_path / "x.txt"),), split=(0.9, 0.0, 0.1))
    found, vocabulary = prepare_corpus(data)
    assert vocabulary.symbols[:-1] == ("a", "b")
    assert found.test.ids.tolist() == [2] * 10
    assert len(found.validation) == 0


@pytest.mark.parametrize(
    ("elsewhere", "ends"),
    [
        ({"test": ["c"]}, {"training": (0, 80), "validation": (80, 100), "test": (100, 130)}),
        ({"validation": ["b"]}, {"training": (0, 70), "validation": (100, 140), "test": (70, 100)}),
        (
            {"validation": ["b"], "test": ["c", "a"]},
            {"training": (0, 100), "validation": (100, 140), "test": (140, 270)},
        ),
    ],
)
def test_parts_may_have_text_of_their_own(room, tmp_path, elsewhere, ends):
    texts = {"a": "ax" * 50, "b": "by" * 20, "c": "cz" * 15}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = {part: tuple(str(tmp_path / n) for n in names) for part, names in elsewhere.items()}
    data = DataSettings(source=(str(tmp_path / "a"),), split=(0.6, 0.15, 0.25), **files)
    found, vocabulary = prepare_corpus(data)
    order = ["a", *(name for names in elsewhere.values() for name in names)]
    text = "".join(texts[name] for name in order)
    assert vocabulary.symbols[:-1] == ("a", "x")
    for part, (start, end) in ends.items():
        wanted = vocabulary.encode(text[start:end])
        np.testing.assert_array_equal(parts_of(found)[part].ids, wanted)


@pytest.mark.parametrize(
    "split", [(1.0, 0.0, 0.0), (0.7, 0.3, 0.0), (0.9, 0.1, 0.0), (0.29, 0.71, 0)]
)
def test_without_a_test_part_nothing_falls_to_it(room, data, split):
    found, _ = prepare_corpus(data.model_copy(update={"split": split}))
    assert len(found.test) == found.test.characters == 0
    assert found.training.characters == int(split[0] * len(TEXT))
    assert found.training.characters + found.validation.characters == len(TEXT)


def test_bytes_are_split_where_characters_are(room, data):
    by_character, _ = prepare_corpus(data)
    by_byte, vocabulary = prepare_corpus(data.model_copy(update={"symbols": "byte"}))
    for name, part in parts_of(by_byte).items():
        other = parts_of(by_character)[name]
        assert part.characters == other.characters
        assert len(part) == len(vocabulary.decode(part.ids).encode()) > len(other)
    assert by_character.digest == by_byte.digest


def test_bytes_of_any_file(room, tmp_path):
    content = np.random.default_rng(0).bytes(5000)
    (tmp_path / "x.bin").write_bytes(content)
    data = DataSettings(source=(str(tmp_path / "x.bin"),), symbols="byte", split=(1.0, 0.0, 0.0))
    found, vocabulary = prepare_corpus(data)
    assert len(vocabulary) == 257
    assert found.training.ids.astype(np.uint8).tobytes() == content


def count_encodings(monkeypatch):
    calls = []
    original = corpus._write
    monkeypatch.setattr(corpus, "_write", lambda *args: (calls.append(1), original(*args))[1])
    return calls


def test_a_corpus_is_encoded_once(room, data, monkeypatch):
    calls = count_encodings(monkeypatch)
    first, vocabulary = prepare_corpus(data)
    second, again = prepare_corpus(data)
    assert len(calls) == 1
    assert again.to_json() == vocabulary.to_json()
    np.testing.assert_array_equal(second.training.ids, first.training.ids)
    prepare_corpus(data.model_copy(update={"split": (0.5, 0.25, 0.25)}))
    prepare_corpus(data.model_copy(update={"vocabulary_size": 9}))
    prepare_corpus(data.model_copy(update={"unknown": False}))
    assert len(calls) == 4


def test_a_changed_file_is_another_corpus(room, data):
    before, _ = prepare_corpus(data)
    with Path(data.source[0]).open("a") as file:
        file.write("more")
    after, _ = prepare_corpus(data)
    assert after.digest != before.digest
    assert len(after.training) == int(0.8 * (len(TEXT) + 4))


@pytest.mark.parametrize(
    "damage",
    [
        lambda room: os.truncate(room / "training", 10),
        lambda room: (room / "test").unlink(),
        lambda room: (room / "corpus.json").write_text("{"),
        lambda room: (room / "corpus.json").write_text('{"parts": {}, "vocabulary": {}}'),
    ],
)
def test_a_damaged_corpus_is_written_anew(room, data, monkeypatch, damage):
    before, _ = prepare_corpus(data)
    ids = np.array(before.training.ids)
    damage(next(room.iterdir()))
    calls = count_encodings(monkeypatch)
    after, _ = prepare_corpus(data)
    assert len(calls) == 1
    np.testing.assert_array_equal(after.training.ids, ids)


def test_the_slower_of_two_takes_what_is_there(room, data):
    inner = []

    def overtake(what, done, total):
        if what == "encoding" and not inner:
            inner.append(prepare_corpus(data))

    found, _ = prepare_corpus(data, overtake)
    np.testing.assert_array_equal(found.training.ids, inner[0][0].training.ids)
    assert len(list(room.iterdir())) == 1


def test_two_processes_at_once(room, data, tmp_path):
    go = tmp_path / "go"
    code = f"""if True:
        import hashlib, pathlib, time
        from unrolled.data import prepare_corpus
        from unrolled.settings import DataSettings
        print("ready", flush=True)
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.001)
        found, vocabulary = prepare_corpus(DataSettings(source=({data.source[0]!r},), symbols="word"))
        print(hashlib.sha256(found.training.ids.tobytes()).hexdigest(), len(vocabulary))
    """
    (tmp_path / "text.txt").write_text(TEXT * 100, "utf-8", newline="")
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    outs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outs[0] == outs[1] != ""
    assert len(list(room.iterdir())) == 1


@pytest.mark.parametrize("what", ["counting symbols", "encoding"])
def test_an_interrupted_encoding_leaves_nothing(room, data, what):
    def interrupt(now, done, total):
        if now == what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(data, interrupt)
    assert not room.exists() or not list(room.iterdir())
    assert len(prepare_corpus(data)[0].training)


def test_progress_reaches_the_end(room, data, monkeypatch):
    monkeypatch.setattr(read, "BLOCK", 100)
    seen = []
    prepare_corpus(data, lambda *report: seen.append(report))
    for what, total in (("counting symbols", int(0.8 * len(TEXT))), ("encoding", len(TEXT))):
        reports = [(done, of) for name, done, of in seen if name == what]
        assert reports == sorted(reports)
        assert reports[-1] == (total, total)


def test_a_full_disk(room, data, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write to the cache at .*No space left on device"):
        prepare_corpus(data)
    assert not list(room.iterdir())


def test_no_place_for_a_cache(data, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(RunError, match="UNROLLED_CACHE_DIR"):
        prepare_corpus(data)


def test_what_killed_processes_left_is_swept(room, data):
    for name, age in (("old", 2 * cache.ABANDONED_AFTER), ("new", 0)):
        partial = room / f"{cache.PARTIAL}{name}"
        partial.mkdir(parents=True)
        os.utime(partial, times=(time.time() - age,) * 2)
    prepare_corpus(data)
    assert {path.name for path in room.glob(f"{cache.PARTIAL}*")} == {f"{cache.PARTIAL}new"}


def test_too_short_to_split(room, tmp_path):
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(InputError, match=r"x\.txt is too short"):
        prepare_corpus(DataSettings(source=(str(tmp_path / "x.txt"),)))


def test_subwords_are_learnt_from_a_sample(room, data, monkeypatch):
    monkeypatch.setattr(corpus, "SUBWORD_SAMPLE", 160)
    monkeypatch.setattr(corpus, "SUBWORD_STRETCHES", 4)
    seen = []
    prepare_corpus(
        data.model_copy(update={"symbols": "subword"}), lambda *report: seen.append(report)
    )
    assert max(done for what, done, _ in seen if what == "counting symbols") == 160
    source = read.open_text(data.source)
    stretches = list(corpus._sample(source, 1600))
    assert stretches == [TEXT[start : start + 40] for start in (0, 400, 800, 1200)]


@pytest.mark.parametrize("kind", KINDS)
def test_other_text(room, data, tmp_path, kind):
    _, vocabulary = prepare_corpus(data.model_copy(update={"symbols": kind}))
    other = "A dark zebra — € Überraschung.\n"
    (tmp_path / "other.txt").write_text(other, "utf-8", newline="")
    part = encode_sources([str(tmp_path / "other.txt")], vocabulary)
    np.testing.assert_array_equal(part.ids, vocabulary.encode(other))
    assert part.characters == len(other)


def test_other_text_in_another_encoding(room, data, tmp_path):
    _, vocabulary = prepare_corpus(data)
    (tmp_path / "other.txt").write_bytes("naïve".encode("latin-1"))
    part = encode_sources([str(tmp_path / "other.txt")], vocabulary, "latin-1")
    assert vocabulary.decode(part.ids) == "naïve"


def test_other_text_and_a_closed_vocabulary(room, data, tmp_path):
    _, vocabulary = prepare_corpus(data.model_copy(update={"unknown": False}))
    (tmp_path / "other.txt").write_text("€", "utf-8")
    with pytest.raises(InputError, match="holds '€'"):
        encode_sources([str(tmp_path / "other.txt")], vocabulary)
    assert len(list(room.iterdir())) == 1  # the training corpus


MEASURE = """if True:
    import json, sys, threading, time
    from pathlib import Path
    import numpy, tokenizers
    from unrolled.data import prepare_corpus
    from unrolled.settings import DataSettings

    def anonymous():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    def watch():
        while True:
            peaks.append(anonymous())
            time.sleep(0.01)

    before, peaks = anonymous(), []
    threading.Thread(target=watch, daemon=True).start()
    found, _ = prepare_corpus(DataSettings(source=(sys.argv[1],), symbols=sys.argv[2]))
    total = sum(int(found.training.ids[i : i + 2**20].sum()) for i in range(0, len(found.training), 2**20))
    print(json.dumps({"growth": max(peaks) - before, "samples": len(peaks), "total": total}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "megabytes"), [("character", 400), ("byte", 400), ("word", 100), ("subword", 100)]
)
def test_memory_does_not_grow_with_the_file(room, tmp_path, kind, megabytes):
    line = TEXT.encode()
    with (tmp_path / "big.txt").open("wb") as file:
        for number in range(megabytes * 10**6 // len(line)):
            file.write(line + b"word%d " % number)
    arguments = [sys.executable, "-c", MEASURE, str(tmp_path / "big.txt"), kind]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=280, check=True)
    measured = json.loads(done.stdout)
    assert measured["samples"] > 50
    assert measured["growth"] < 256e6, measured
