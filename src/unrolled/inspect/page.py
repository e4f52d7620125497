"""One page that needs no other file, readable in light and dark, and its pictures as PNG."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unrolled.checkpoint import files

_STYLE = (
    ":root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ddd;--quiet:#666}"
    "@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#181818;--line:#444;--quiet:#999}}"
    "body{font:16px/1.6 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;"
    "color:var(--ink);background:var(--paper)}img{max-width:100%;background:#fff;border-radius:6px}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:2px 12px 2px 0;"
    "border-bottom:1px solid var(--line)}small{color:var(--quiet)}pre{overflow-x:auto}"
    ".text{font:14px/1.7 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
)


@dataclass
class Page:
    """A page that is written part by part.

    Attributes:
        title: Its title.
        parts: HTML.
        pictures: Name of a file -> PNG.
    """

    title: str
    parts: list[str] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, *lines: str) -> None:
        """Add a paragraph."""
        self.parts.append(f"<p>{'<br>'.join(map(html.escape, lines))}</p>")

    def printed(self, text: str) -> None:
        """Add text as it would stand on a terminal."""
        self.parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table."""
        lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}' for cell in head)}</tr>"]
        lines += [
            f"<tr>{''.join(f'<td>{html.escape(str(cell))}' for cell in row)}</tr>" for row in rows
        ]
        self.parts.append(f"<table>{''.join(lines)}</table>")

    def picture(self, name: str, title: str, png: bytes) -> None:
        """Add a picture; it becomes a file of this name beside the page as well."""
        self.pictures[name] = png
        data, told = base64.b64encode(png).decode(), html.escape(title)
        self.parts.append(f'<h3>{told}</h3><img alt="{told}" src="data:image/png;base64,{data}">')

    def to_html(self) -> str:
        """Give the whole page."""
        title = html.escape(self.title)
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
            '<meta name=viewport content="width=device-width">'
            f"<style>{_STYLE}</style><h1>{title}</h1>{''.join(self.parts)}</html>\n"
        )

    def write(self, directory: Path, name: str) -> Path:
        """Write pictures and page into a directory, made if it is not there; give the page's path.

        Raises:
            RunError: If one cannot be written.
        """
        files.folder(directory)
        for picture, png in self.pictures.items():
            files.write(directory / picture, png, durable=False)
        files.write(directory / name, self.to_html().encode(), durable=False)
        return directory / name
