"""One HTML page that needs nothing beside itself: text, tables, and pictures in the text."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1180px; padding: 12px 16px 48px; color: #1c2126;
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .6em 0 .2em }
h2 { font-size: 1.2rem; margin: 2em 0 .4em;
  padding-bottom: .2em; border-bottom: 1px solid #d9dee3 }
h3 { font-size: 1rem; margin: 1.2em 0 .3em }
p { margin: .4em 0; max-width: 75ch }
nav { font-size: .9rem } nav a { margin-right: 1em; white-space: nowrap } a { color: #0b5cad }
.wide { overflow-x: auto; margin: .6em 0 }
table { border-collapse: collapse; font-size: .88rem }
th, td { padding: .3em .7em; border-bottom: 1px solid #e4e8ec; text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
thead th { border-bottom: 2px solid #b9c2ca }
table.text td, table.text th { text-align: left }
table.text td { white-space: normal; overflow-wrap: anywhere; min-width: 9em }
.plots { display: grid; gap: 12px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)) }
.panels { display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr));
  margin: .4em 0 1.2em }
figure { margin: 0 } img { width: 100%; height: auto; display: block }
.plots figure { max-width: 560px } .panels img { image-rendering: pixelated; border-radius: 3px }
figcaption { font-size: .8rem; color: #55606a }
.missing { background: #fff6e0; border-left: 4px solid #d99a00; padding: .4em .9em;
  margin: .8em 0 }
.missing ul { margin: .2em 0; padding-left: 1.2em }
@media (max-width: 600px) { body { padding: 8px 12px 32px; font-size: 15px }
  th, td { padding: .25em .45em } th:first-child, td:first-child { white-space: normal }
  .panels { grid-template-columns: 1fr 1fr } }
@media print { nav { display: none } h2 { break-after: avoid } figure, tr { break-inside: avoid } }
"""


class Page:
    """A page that grows section by section.

    Args:
        title: Its heading.
        below: A line below it.
        folder: Where the pictures are written beside it, as PNG.
    """

    def __init__(self, title: str, below: str, folder: Path) -> None:
        self.title, self.below, self.folder = title, below, folder
        self._sections: list[tuple[str, str, list[str]]] = []
        self._names: set[str] = set()
        self.missing: list[str] = []

    def section(self, title: str) -> None:
        """What follows stands below this heading."""
        self._sections.append((_plain(title), title, []))

    def _add(self, text: str) -> None:
        self._sections[-1][2].append(text)

    def heading(self, text: str) -> None:
        """A heading within a section."""
        self._add(f'<h3>{escape(text)}</h3>')

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add(f'<p>{escape(text)}</p>')

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = '') -> None:
        """A table, its empty columns left out; ``kind='text'`` for one of words.

        It scrolls by itself where it is wide.
        """
        kept = [i for i in range(len(head)) if any(str(row[i]) for row in rows)]
        head, rows = [head[i] for i in kept], [[row[i] for i in kept] for row in rows]

        def line(cells: Sequence[str], tag: str) -> str:
            return ''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells)

        body = ''.join(f'<tr>{line(row, "td")}</tr>' for row in rows)
        self._add(f'<div class="wide"><table class="{kind}"><thead><tr>{line(head, "th")}</tr>'
                  f'</thead><tbody>{body}</tbody></table></div>')  # fmt: skip

    def plots(self, figures: dict[str, bytes]) -> None:
        """Plots side by side: what each shows → the content of a PNG file."""
        self._add(f'<div class="plots">{self._figures(figures, captions=False)}</div>')

    def panels(self, figures: dict[str, bytes], name: str) -> None:
        """Small pictures side by side with captions; ``name`` is of the files beside the page."""
        self._add(f'<div class="panels">{self._figures(figures, True, name)}</div>')

    def _figures(self, figures: dict[str, bytes], captions: bool, name: str = '') -> str:
        parts = []
        for title, content in figures.items():
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = _plain(f'{name} {title}')
            while stem in self._names:
                stem += '-2'
            self._names.add(stem)
            (self.folder / f'{stem}.png').write_bytes(content)
            source = base64.b64encode(content).decode()
            below = f'<figcaption>{escape(title)}</figcaption>' if captions else ''
            parts.append(f'<figure><img alt="{escape(title)}" '
                         f'src="data:image/png;base64,{source}">{below}</figure>')  # fmt: skip
        return ''.join(parts)

    def html(self) -> str:
        """The whole page; its own policy forbids it to fetch anything."""
        links = ' '.join(f'<a href="#{name}">{escape(title)}</a>'
                        for name, title, _ in self._sections)  # fmt: skip
        missing = ''
        if self.missing:
            items = ''.join(f'<li>{escape(text)}</li>' for text in self.missing)
            missing = f'<div class="missing">What is missing here:<ul>{items}</ul></div>'
        body = ''.join(f'<section id="{name}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'
                       for name, title, parts in self._sections)  # fmt: skip
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" '
            'content="default-src \'none\'; img-src data:; style-src \'unsafe-inline\'">'
            f'<title>{escape(self.title)}</title><style>{_STYLE}</style></head><body>'
            f'<h1>{escape(self.title)}</h1><p>{escape(self.below)}</p><nav>{links}</nav>{missing}{body}</body></html>\n')


def _plain(text: str) -> str:
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')[:80] or 'picture'
