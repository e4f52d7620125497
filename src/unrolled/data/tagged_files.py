"""Find and read sequences with a tag for each step, whatever file they are in."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from unrolled.data import stored
from unrolled.data.conll import read_conll, read_several
from unrolled.data.python_tokens import python_tokens
from unrolled.data.read import find_pieces
from unrolled.data.stored import Store
from unrolled.data.tagged import Tagged
from unrolled.errors import InputError
from unrolled.settings import DataSettings

PYTHON = "python-tokens"


def read_tagged(sources: Sequence[str], data: DataSettings) -> Sequence[Tagged]:
    """Read sequences of words with their tags; there may be more than memory holds.

    ``python-tokens`` is what :func:`~unrolled.data.python_tokens.python_tokens` gives; files are as
    :func:`~unrolled.data.conll.read_conll` has them.

    Args:
        sources: Files, directories, ``"-"`` or data sets, see :func:`unrolled.data.open_text`.
        data: ``columns`` and ``encoding`` count.

    Raises:
        InputError: If a file is missing, unreadable or not as its format says, or all are empty.
    """
    if list(sources) == [PYTHON]:
        return python_tokens()
    return _read(sources, data, read_conll)


def read_tagged_several(sources: Sequence[str], data: DataSettings) -> Sequence[Tagged]:
    """Read sequences of words with several tags each, a tuple; else as :func:`read_tagged`.

    Raises:
        InputError: If some have another number of tags than others; else as :func:`read_tagged`.
    """
    if list(sources) == [PYTHON]:
        return python_tokens(nested=True)
    found = _read(sources, data, read_several)
    count = len(found[0].tags[0])
    if count < 2:
        raise InputError(f"{found[0].file} has one column of tags; several tasks are two or more")
    for one in found:
        if len(one.tags[0]) != count:
            raise InputError(
                f"{one.file} has {len(one.tags[0])} columns of tags, but {found[0].file} has {count}; name "
                "them with --columns"
            )
    return found


def _read(
    sources: Sequence[str],
    data: DataSettings,
    read: Callable[[str, Iterable[str], Sequence[str]], Iterator[Tagged]],
) -> Sequence[Tagged]:
    made: Store[Tagged] = stored.anything()
    for piece in find_pieces(sources, data.encoding):
        for one in read(piece.name, piece.lines(), data.columns):
            made.add(one)
    if not len(made):
        raise InputError(
            f"{', '.join(sources)} holds no words; a line is a word and its tag, with a tab or a space "
            "between"
        )
    return made.done()
