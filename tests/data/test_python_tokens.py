"""Characters of Python's own sources."""

import io
import tokenize

from unrolled.data.python_tokens import LONGEST, python_tokens, tag_python

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
    assert ["".join(one.steps).split("\n")[0] for one in found] == [
        "import os  # why",
        "@decorated",
        "def f(x):",
        "if os: pass",
    ]
    words = {}
    for character, tag in zip(found[2].steps, found[2].tags, strict=True):
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
    assert all(0 < len(one.steps) == len(one.tags) <= LONGEST for one in found)
    assert {tag for one in found for tag in one.tags} >= {"NAME", "KEYWORD", "OP", "STRING"}


def test_the_source_is_kept():
    whole = "".join("".join(one.steps) + "\n" for one in tag_python(SOURCE.encode()))
    names = [t.string for t in tokenize.tokenize(io.BytesIO(whole.encode()).readline)]
    assert names[1:9] == ["import", "os", "# why", "\n", "@", "decorated", "\n", "def"]
