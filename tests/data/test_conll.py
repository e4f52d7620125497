"""Words and tags in columns."""

import os
from io import StringIO

import pytest

from unrolled.data.conll import read_conll
from unrolled.data.tagged_files import read_tagged
from unrolled.errors import InputError
from unrolled.settings import DataSettings

UNIVERSAL = """\
# sent_id = 1
# text = Don't go.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVBP\tMood=Imp|VerbForm=Fin\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\tMood=Imp|Number=Sing\t0\troot\t_\tSpaceAfter=No
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# only a comment

# sent_id = 2
1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
"""


def pairs(found):
    return [list(zip(one.steps, one.tags, strict=True)) for one in found]


@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz", "standard input"])
def test_universal(name):
    found = list(read_conll(name, StringIO(UNIVERSAL)))
    assert pairs(found) == [
        [("Do", "AUX"), ("n't", "PART"), ("go", "VERB"), (".", "PUNCT")],
        [("Yes", "INTJ")],
    ]
    assert found[0].file == name


@pytest.mark.parametrize(
    ("columns", "first"),
    [
        (("xpos",), ("Do", "VBP")),
        (("form", "XPOS"), ("Do", "VBP")),
        (("lemma", "upos"), ("do", "AUX")),
        (("2", "5"), ("Do", "VBP")),
        (("2", "-6"), ("Do", "VBP")),
        (("feats",), ("Do", "Mood=Imp|VerbForm=Fin")),
    ],
)
def test_chosen_columns(columns, first):
    assert pairs(read_conll("a.conllu", StringIO(UNIVERSAL), columns))[0][0] == first


def test_one_feature():
    (first, second) = read_conll("a.conllu", StringIO(UNIVERSAL), ("feats.Number",))
    assert (first.tags, second.tags) == (["_", "_", "Sing", "_"], ["_"])


PLAIN = """\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
# # I-NP O
rejects VBZ B-VP O

go VB B-VP O
"""


@pytest.mark.parametrize(
    ("columns", "tags"),
    [
        ((), ["B-ORG", "O", "O"]),
        (("2",), ["NNP", "#", "VBZ"]),
        (("1", "3"), ["B-NP", "I-NP", "B-VP"]),
        (("1", "-2"), ["B-NP", "I-NP", "B-VP"]),
    ],
)
def test_plain_columns(columns, tags):
    first, second = read_conll("eng.train", StringIO(PLAIN), columns)
    assert (first.steps, first.tags) == (["EU", "#", "rejects"], tags)
    assert second.steps == ["go"]


def test_columns_named_by_the_first_line():
    text = "# global.columns = FORM NER\nEU\tB-ORG\n \tO\n"
    (found,) = read_conll("a.txt", StringIO(text), ("form", "ner"))
    assert pairs([found]) == [[("EU", "B-ORG"), (" ", "O")]]
    plus = "# global.columns = ID FORM PARSEME:MWE\n1\tup\t*\n\n"
    (found,) = read_conll("a.conllup", StringIO(plus), ("form", "parseme:mwe"))
    assert pairs([found]) == [[("up", "*")]]


@pytest.mark.parametrize(
    ("name", "text", "columns", "words"),
    [
        ("t.tsv", "a\tX\nb\n", (), ("t.tsv:2 has 1 column, 'b'", "line 1 has 2")),
        ("t.tsv", "a\n", (), ("t.tsv:1 has one column", "a word and its tag")),
        ("t.tsv", "a\t\n", (), ("t.tsv:1", "the tag is empty")),
        ("t.tsv", "\tX\n", (), ("t.tsv:1", "the word is empty")),
        ("t.tsv", "a\tb\tc\na\tb\n", (), ("t.tsv:2 has 2 columns",)),
        ("t.tsv", "a\tb\n", ("1", "3"), ("no column 3", "it has 2 columns")),
        ("t.tsv", "a\tb\n", ("0",), ("no column 0",)),
        ("t.tsv", "a\tb\n", ("form", "ner"), ("no column is named 'form'", "--columns 1,2")),
        ("t.tsv", "a\tb\n", ("1", "2", "3"), ("names 3", "word and tag")),
        ("a.conllu", UNIVERSAL, ("form", "ner"), ("no column 'ner'", "upos")),
        ("a.conllu", UNIVERSAL, ("form", "11"), ("no column 11", "it has 10")),
        ("a.conllu", "1\tDo\n\n", (), ("a.conllu:1", "2 columns", "number 4 of 10")),
        ("a.conllu", UNIVERSAL + "\n\nDo\n", (), ("a.conllu:16", "not CoNLL-U")),
    ],
)
def test_bad_files(name, text, columns, words):
    with pytest.raises(InputError) as error:
        list(read_conll(name, StringIO(text), columns))
    for word in words:
        assert word in str(error.value)


@pytest.mark.skipif("UNROLLED_DATA_DIR" not in os.environ, reason="needs UNROLLED_DATA_DIR")
def test_the_web_treebank():
    found = read_tagged(["ud_english_ewt/en_ewt-ud-dev.conllu"], DataSettings())
    assert (len(found), sum(map(len, found))) == (2001, 25147)
    assert len({tag for one in found for tag in one.tags}) == 17
