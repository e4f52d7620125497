"""From a file to batches of symbol ids, as NumPy arrays.

`read` finds the sources and gives their text in chunks; `vocabulary` (its kinds in `coded` and `words`)
turns text to ids; `corpus` splits and encodes a text once, into the `cache`; `windows` cuts the ids into
what a batch reads. `table` reads labelled texts (their formats in `labelled`), `images` labelled pictures
(those of IDX files in `idx`). `catalogue` knows data sets by name, `builtin` those
that need no download. Nothing here imports torch, and importing this package imports none of its modules.
"""

from typing import TYPE_CHECKING

from unrolled.lazy import lazily

if TYPE_CHECKING:
    from unrolled.data.cache import cache_dir
    from unrolled.data.catalogue import Entry, get, list_entries
    from unrolled.data.corpus import Corpus, Part, encode_sources, prepare_corpus
    from unrolled.data.images import Images, read_images, read_pictures
    from unrolled.data.read import TextSource, open_text
    from unrolled.data.table import Table, read_lines, read_table
    from unrolled.data.vocabulary import TextStream, Vocabulary, fit_vocabulary
    from unrolled.data.windows import Window, Windows

__all__ = [
    "Corpus",
    "Entry",
    "Images",
    "Part",
    "Table",
    "TextSource",
    "TextStream",
    "Vocabulary",
    "Window",
    "Windows",
    "cache_dir",
    "encode_sources",
    "fit_vocabulary",
    "get",
    "list_entries",
    "open_text",
    "prepare_corpus",
    "read_images",
    "read_lines",
    "read_pictures",
    "read_table",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Corpus": "unrolled.data.corpus",
        "Entry": "unrolled.data.catalogue",
        "Images": "unrolled.data.images",
        "Part": "unrolled.data.corpus",
        "Table": "unrolled.data.table",
        "TextSource": "unrolled.data.read",
        "TextStream": "unrolled.data.vocabulary",
        "Vocabulary": "unrolled.data.vocabulary",
        "Window": "unrolled.data.windows",
        "Windows": "unrolled.data.windows",
        "cache_dir": "unrolled.data.cache",
        "encode_sources": "unrolled.data.corpus",
        "fit_vocabulary": "unrolled.data.vocabulary",
        "get": "unrolled.data.catalogue",
        "list_entries": "unrolled.data.catalogue",
        "open_text": "unrolled.data.read",
        "prepare_corpus": "unrolled.data.corpus",
        "read_images": "unrolled.data.images",
        "read_lines": "unrolled.data.table",
        "read_pictures": "unrolled.data.images",
        "read_table": "unrolled.data.table",
    },
    __all__,
)
