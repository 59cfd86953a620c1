"""One line of the doctor's: what was looked at, the verdict, what was found, what to write."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# LOOK: a person should; BAD: training would be pointless as things are.
GOOD, LOOK, BAD = 'good', 'look', 'bad'
_NAMES, _INDENT = 18, 6


@dataclass
class Finding:
    """A verdict and what it rests on.

    Attributes:
        name: What was looked at.
        verdict: ``'good'``, ``'look'`` or ``'bad'``.
        found: In words.
        write: What mends it; nothing where all is well.
        values: The numbers and names behind the words, in plain types.
    """

    name: str
    verdict: str
    found: str
    write: str = ''
    values: dict[str, Any] = field(default_factory=dict)


def from_error(name: str, error: Exception) -> Finding:
    """What an error says, parted from what it says to write.

    Example:
        >>> found = from_error('taps', ValueError("no module 'nek'; write 'neck'"))
        >>> found.found, found.write
        ("no module 'nek'", "write 'neck'")
    """
    said = ' '.join(str(error).split()) or type(error).__name__
    if not isinstance(error, ValueError):
        said = f'{type(error).__name__}: {said}'
    parts = re.split(r'; (?=write |take |tap |fetch )|\. (?=Write |With one class write )', said)
    return Finding(name, BAD, parts[0], '; '.join(parts[1:]))


def is_pointless(findings: Sequence[Finding]) -> bool:
    """Whether training would be."""
    return any(finding.verdict == BAD for finding in findings)


def screen(title: str, findings: Sequence[Finding], width: int = 100) -> str:
    """All of it for a person, one finding after the other.

    Args:
        title: The first line.
        findings: In the order in which they are read.
        width: Of a line, in characters.

    Example:
        >>> print(screen('pair.py', [Finding('classes', 'bad', 'another order', 'classes=…')]))
        pair.py
        <BLANKLINE>
        bad   classes           another order
                                → classes=…
        <BLANKLINE>
        1 bad: training would be pointless.
    """
    lines = [title, '']
    for finding in findings:
        margin = ' ' * (_INDENT + _NAMES)
        head = f'{finding.verdict:{_INDENT}}{finding.name:{_NAMES}}'
        lines += textwrap.wrap(
            finding.found, width, initial_indent=head if head.endswith(' ') else f'{head} ',
            subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
        if finding.write:
            lines += textwrap.wrap(
                finding.write, width, initial_indent=f'{margin}→ ',
                subsequent_indent=f'{margin}  ', break_long_words=False, break_on_hyphens=False)
    return '\n'.join([*lines, '', _sum_up(findings)])


def _sum_up(findings: Sequence[Finding]) -> str:
    bad, look = (sum(one.verdict == kind for one in findings) for kind in (BAD, LOOK))
    if bad:
        return f'{bad} bad: training would be pointless.'
    return f'Nothing speaks against training; {look} to look at.' if look else 'All is well.'
