"""Pages that lag behind the program fail here; `python docs/tables.py` brings the tables up to date."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unrolled

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
tables = importlib.import_module("tables")
MARKED = [page for page in sorted(DOCS.glob("*.md")) if "<!-- table:" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", MARKED, ids=lambda page: page.stem)
def test_tables_are_fresh(page):
    text = page.read_text("utf-8")
    assert tables.filled(text) == text, f"{page.name} is stale: run python docs/tables.py"


def test_every_table_is_in_a_page():
    text = "".join(page.read_text("utf-8") for page in MARKED)
    assert set(re.findall(r"<!-- table: (\w+) -->", text)) == set(tables.TABLES)


@pytest.mark.parametrize(
    "package", ["unrolled", "unrolled.cells", "unrolled.data", "unrolled.layers"]
)
def test_every_public_name_is_in_the_reference(package):
    reference = (DOCS / "api.md").read_text("utf-8")
    described = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)", reference, re.MULTILINE))
    module = importlib.import_module(package)
    modules = {"cells", "data", "layers", "__version__"}
    assert set(module.__all__) - modules <= described


def test_the_changelog_knows_the_version():
    assert f"## {unrolled.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_page_is_reached():
    listed = re.findall(r"^([\w-]+)$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE)
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} == set(listed)


def test_the_pictures_are_small():
    for name in ("run.svg", "loss.png"):
        assert 1000 < (DOCS / "_static" / name).stat().st_size < 200_000


def test_the_pages_build_without_a_warning(tmp_path):
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*build, "-d", tmp_path / "trees", DOCS, tmp_path / "html"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
