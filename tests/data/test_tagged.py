"""Tokens with tags."""

import io
import tokenize

import pytest

from unrolled.data.tagged import LONGEST, python_tokens, read_tagged, tag_python
from unrolled.errors import InputError


def test_two_columns(tmp_path):
    (tmp_path / "t.tsv").write_text("the\tDET\ncat\tNOUN\n\n\nsat\tVERB", "utf-8")
    one, other = read_tagged([str(tmp_path / "t.tsv")])
    assert (one.tokens, one.tags) == (["the", "cat"], ["DET", "NOUN"])
    assert (other.tokens, other.tags) == (["sat"], ["VERB"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\tX\nb\n", r"t\.tsv:2 is 'b'; a line is a token, a tab and its tag"),
        ("a\t\n", r"t\.tsv:1 "),
        ("a\tb\tc\n", r"t\.tsv:1 "),
        ("\n\n", "holds no tokens"),
    ],
)
def test_bad_files(tmp_path, text, sentence):
    (tmp_path / "t.tsv").write_text(text, "utf-8")
    with pytest.raises(InputError, match=sentence):
        read_tagged([str(tmp_path / "t.tsv")])


SOURCE = '''# head
import os  # why

@decorated
def f(x):
    """Say
    it."""
    return x + 1.5

if os: pass
'''


def test_characters_of_python():
    found = list(tag_python(SOURCE.encode()))
    assert ["".join(one.tokens).split("\n")[0] for one in found] == [
        "import os  # why",
        "@decorated",
        "def f(x):",
        "if os: pass",
    ]
    words = {}
    for character, tag in zip(found[2].tokens, found[2].tags, strict=True):
        words.setdefault(tag, []).append(character)
    assert {tag: "".join(word) for tag, word in words.items()} == {
        "OP": "():+",
        "NAME": "fxx",
        "KEYWORD": "defreturn",
        "STRING": '"""Say\n    it."""',
        "NUMBER": "1.5",
        "SPACE": " \n    \n" + 7 * " ",
    }
    assert set(found[0].tags) == {"KEYWORD", "NAME", "SPACE", "COMMENT"}


def test_the_library():
    found = python_tokens()
    assert len(found) > 1000
    assert all(0 < len(one.tokens) == len(one.tags) <= LONGEST for one in found)
    assert {tag for one in found for tag in one.tags} >= {"NAME", "KEYWORD", "OP", "STRING"}


def test_the_source_is_kept():
    whole = "".join("".join(one.tokens) + "\n" for one in tag_python(SOURCE.encode()))
    names = [t.string for t in tokenize.tokenize(io.BytesIO(whole.encode()).readline)]
    assert names[1:9] == ["import", "os", "# why", "\n", "@", "decorated", "\n", "def"]
