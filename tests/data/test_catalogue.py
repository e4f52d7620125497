"""The catalogue: sound facts, verified files, nothing half downloaded."""

import gzip
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer.testing

from unrolled.data import builtin, catalogue, command, get, list_entries, open_text
from unrolled.errors import InputError, RunError

CONTENT = b"the text of a data set\n" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def room(tmp_path, monkeypatch):
    """An empty cache, and no local copies."""
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UNROLLED_DATA_DIR", raising=False)
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def served(room, monkeypatch):
    """A server that serves the returned dict, and a data set "toy" whose files come from it."""
    contents = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = contents.get(self.path)
            self.send_response(404 if content is None else 200)
            claimed = len(content or b"") + (1000 if self.path.startswith("/cut") else 0)
            self.send_header("Content-Length", str(claimed))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def toy(*paths, url=f"http://127.0.0.1:{server.server_port}"):
        files = [
            {
                "name": f"{path.removesuffix('.gz')}",
                "bytes": len(CONTENT),
                "sha256": SHA256,
                "path": path,
            }
            for path in paths
        ]
        facts = {"name": "toy", "what": "a toy", "task": "generate", "licence": "none", "page": url}
        entries = (catalogue._entry(base=f"{url}/", files=files, **facts),)
        monkeypatch.setattr(catalogue, "list_entries", lambda: entries)
        return contents, asked

    yield toy
    server.shutdown()
    server.server_close()


def test_facts_are_sound():
    entries = list_entries()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names)
    assert names[0] == "english"
    assert {"tinyshakespeare", "norvig_big", "warpeace", "names"} < set(names)
    for entry in entries:
        assert entry.what
        assert entry.task
        assert entry.licence
        assert re.match(r"https?://", entry.page)
        assert entry.bytes > 0 or entry.where() == "built in"
        assert "".encode(entry.encoding) == b""
        assert sum(file.bytes for file in entry.files) in (entry.bytes, 0)
        for file in entry.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.url.startswith("https://")
            assert Path(file.name).name == file.name


def test_built_in_text():
    text = builtin.english()
    assert text == builtin.english()
    if sys.version_info[:2] == (3, 11):
        assert len(text) == 465_048
    assert get("english") == []
    assert catalogue.find("english").where() == "built in"


@pytest.mark.parametrize("path", ["input.txt", "input.txt.gz"])
def test_download(served, room, path):
    contents, asked = served(path)
    contents[f"/{path}"] = gzip.compress(CONTENT) if path.endswith(".gz") else CONTENT
    entry = catalogue.find("toy")
    assert entry.where() == "to download"
    paths = get("toy")
    assert paths == [room / "toy" / "input.txt"]
    assert paths[0].read_bytes() == CONTENT
    assert entry.where() == "cached"
    assert get("toy") == paths
    assert len(asked) == 1
    assert "".join(open_text(["toy"]).chunks()).encode() == CONTENT
    assert list(room.rglob("*")) == [room / "toy", *paths]


def test_a_longer_download_is_cut(served, room):
    contents, _ = served("input.txt")
    contents["/input.txt"] = CONTENT + b"added later"
    assert get("toy")[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("input.txt", CONTENT[:-1]),
        ("input.txt", b"<html>"),
        ("input.txt", b""),
        ("input.txt.gz", gzip.compress(CONTENT, mtime=0)[:20]),
        ("input.txt.gz", CONTENT),
        ("cut.txt", CONTENT),
        ("missing.txt", None),
    ],
)
def test_a_bad_download_leaves_nothing(served, room, path, content):
    contents, _ = served(path)
    contents[f"/{path}"] = content
    with pytest.raises(RunError) as caught:
        get("toy")
    assert "toy" in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [found for found in room.rglob("*") if found.is_file()]
    assert not list(room.rglob(".partial*"))


def test_no_network(served, room):
    served("input.txt", url="http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"cannot download toy from .*connect to the network.*toy/"):
        get("toy")


def test_no_room_for_a_download(served, tmp_path, monkeypatch):
    contents, _ = served("input.txt")
    contents["/input.txt"] = CONTENT
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(RunError, match="cannot write to the cache"):
        get("toy")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_local_copy_comes_first(served, room, tmp_path, monkeypatch, suffix):
    served("input.txt")
    monkeypatch.setenv("UNROLLED_DATA_DIR", str(tmp_path / "local"))
    path = tmp_path / "local" / "toy" / f"input.txt{suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(CONTENT) if suffix else CONTENT)
    assert get("toy") == [path]
    assert catalogue.find("toy").where() == "local"
    assert "".join(open_text(["toy"]).chunks()).encode() == CONTENT
    assert not room.exists()


@pytest.mark.parametrize(
    ("name", "content"), [("input.txt", b"other"), ("input.txt.gz", b"\x1f\x8b")]
)
def test_a_wrong_local_copy(served, room, tmp_path, monkeypatch, name, content):
    served("input.txt")
    monkeypatch.setenv("UNROLLED_DATA_DIR", str(tmp_path / "local"))
    (tmp_path / "local" / "toy").mkdir(parents=True)
    (tmp_path / "local" / "toy" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"toy/input\.txt.*checksum.*UNROLLED_DATA_DIR"):
        get("toy")


def test_one_file_of_a_set(served, room):
    contents, asked = served("a.txt", "b.txt")
    contents["/b.txt"] = CONTENT
    assert get("toy/b.txt") == [room / "toy" / "b.txt"]
    assert asked == ["/b.txt"]
    assert catalogue.find("toy/b.txt").bytes == len(CONTENT)
    assert catalogue.find("toy").where() == "to download"
    with pytest.raises(InputError, match=r"toy/c\.txt"):
        get("toy/c.txt")


def test_unknown_name():
    with pytest.raises(InputError, match="did you mean 'warpeace'"):
        get("war_peace")


def test_a_set_is_read_in_its_own_encoding(served, room, monkeypatch):
    contents, _ = served("input.txt")
    contents["/input.txt"] = CONTENT
    entry = catalogue.Entry(**{**vars(catalogue.find("toy")), "encoding": "utf-16-le"})
    monkeypatch.setattr(catalogue, "list_entries", lambda: (entry,))
    assert "".join(open_text(["toy"]).chunks()) == CONTENT.decode("utf-16-le")
    assert "".join(open_text(["toy"], "latin-1").chunks()) == CONTENT.decode()
    assert "".join(open_text(["toy"], any_bytes=True).chunks()) == CONTENT.decode()


@pytest.fixture
def cli():
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return lambda *arguments: typer.testing.CliRunner().invoke(
        app, ["data", *arguments], catch_exceptions=False, env={"COLUMNS": "200"}
    )


def test_list_command(cli, room):
    shown = cli("list")
    assert shown.exit_code == 0
    for entry in list_entries():
        line = next(line for line in shown.stdout.splitlines() if entry.name in line.split())
        assert entry.licence in line
        assert entry.where() in line
    table = json.loads(cli("list", "--json").stdout)
    first = table["datasets"][0]
    assert (first["name"], first["where"], first["files"]) == ("english", "built in", [])
    assert table["datasets"][-1]["files"][0].keys() == {"name", "bytes", "sha256", "url"}


def test_get_command(cli, served, room):
    contents, _ = served("input.txt")
    contents["/input.txt"] = CONTENT
    path = str(room / "toy" / "input.txt")
    assert cli("get", "toy").stdout.replace("\n", "") == path
    assert json.loads(cli("get", "toy", "--json").stdout) == {"name": "toy", "files": [path]}


def test_get_what_is_built_in(cli, room):
    assert cli("get", "english").stdout == "english is built in\n"
    assert json.loads(cli("get", "english", "--json").stdout) == {"name": "english", "files": []}


def test_importing_the_room_is_cheap():
    code = (
        "import sys, unrolled.data, unrolled.data.command; from unrolled.data import cache_dir; "
        "print({'torch', 'numpy', 'tokenizers', 'pooch', 'requests', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_reading_and_encoding_import_no_torch(tmp_path):
    code = (
        "import sys; from unrolled import data; from unrolled.settings import DataSettings; "
        "data.prepare_corpus(DataSettings(source=('english',))); data.list_entries(); "
        "print({'torch', 'tokenizers', 'pooch', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "UNROLLED_CACHE_DIR": str(tmp_path)},
    )
    assert done.stdout == "set()\n"


LOCAL = os.environ.get("UNROLLED_DATA_DIR", "")


@pytest.mark.parametrize("entry", list_entries(), ids=lambda entry: entry.name)
def test_local_copies_are_what_the_catalogue_means(entry):
    if not entry.files or entry.where() != "local":
        pytest.skip("no local copy (UNROLLED_DATA_DIR)")
    for path in get(entry.name):
        assert path.is_relative_to(LOCAL)


@pytest.mark.parametrize(
    ("name", "characters", "any_bytes"),
    [
        ("tinyshakespeare", 1_115_394, False),
        ("norvig_big", 6_488_666, False),
        ("warpeace", 3_258_227, False),
        ("mr_polarity", 1_238_395, False),
        ("names/Korean.txt", 423, True),
    ],
)
def test_published_sizes(name, characters, any_bytes):
    if catalogue.find(name).where() != "local":
        pytest.skip("no local copy (UNROLLED_DATA_DIR)")
    assert open_text([name], any_bytes=any_bytes).characters == characters
