"""Keys and numbers of a config: what is wrong is answered by what to write instead."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any


def closest(name: Any, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is nearest to, whatever its case; None where none is.

    Example:
        >>> closest('alinger', ['name', 'aligner']), closest('ckpt', ['config', 'checkpoint'])
        ('aligner', 'checkpoint')
        >>> closest('tau', ['name', 'levels'])
    """
    def bare(text: Any) -> str:
        return str(text).lower().replace('_', '').replace('-', '')

    def abbreviates(name: str, one: str) -> bool:
        letters = iter(one)
        return name[:1] == one[:1] != '' and all(letter in letters for letter in name)

    names = {bare(one): one for one in known}
    found = difflib.get_close_matches(bare(name), names, n=1, cutoff=0.65)
    found += [one for one in names if abbreviates(bare(name), one)]
    return names[found[0]] if found else None


def check_keys(
    what: str, found: Iterable[Any], known: Iterable[str], required: Iterable[str] = ()
) -> None:
    """Refuse keys that a dict of a config does not take, and the lack of those that it needs.

    Args:
        what: Whose keys they are.
        found: The keys that are there.
        known: Those that may be.
        required: Those that must be.

    Raises:
        ValueError: With the closest names.

    Example:
        >>> check_keys('views', ['operation'], ['operations'])
        Traceback (most recent call last):
        ValueError: views takes ['operations']; unknown: ['operation'] (write 'operations')
    """
    found, known = list(found), list(known)
    unknown = sorted((key for key in found if key not in known), key=str)
    missing = [key for key in required if key not in found]
    if not unknown and not missing:
        return
    said = []
    if unknown:
        near = [repr(one) for one in dict.fromkeys(closest(key, known) for key in unknown) if one]
        said.append(f'unknown: {unknown}' + (f' (write {", ".join(near)})' if near else ''))
    if missing:
        said.append(f'missing: {missing}')
    raise ValueError(f'{what} takes {known}; {", ".join(said)}')


def check_arguments(what: str, function: Callable, found: Iterable[Any]) -> None:
    """The same for the keyword arguments of a function, or of a class.

    Raises:
        ValueError: It does not take them, or needs others.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD,
                                                       one.KEYWORD_ONLY)]  # fmt: skip
    check_keys(what, found, [one.name for one in named],
               [one.name for one in named if one.default is one.empty])  # fmt: skip


def check_number(
    name: str, value: Any, least: float = 0.0, most: float = math.inf, above: bool = False
) -> Any:
    """``value``, where it is a finite number in a range.

    Args:
        name: Of the option.
        value: What it was given.
        least: The smallest that it may be.
        most: The greatest that it may be.
        above: Whether it has to be above ``least``.

    Raises:
        ValueError: It is no such number.

    Example:
        >>> check_number('loss_weight', '1')
        Traceback (most recent call last):
        ValueError: loss_weight='1'; write a number, 0 or more
    """
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < least or value > most or (above and value == least):
        wanted = f' above {least:g}' if above else f', {least:g} or more'
        if most < math.inf:
            wanted = f' from {least:g} to {most:g}'
        raise ValueError(f'{name}={value!r}; write a number{wanted}')
    return value


def check_count(name: str, value: Any, least: int = 1) -> Any:
    """``value``, where it is a whole number, ``least`` or more.

    Raises:
        ValueError: It is no such number.
    """
    if type(value) is not int or value < least:
        raise ValueError(f'{name}={value!r}; write a whole number, {least} or more')
    return value


def one_line(error: BaseException, most: int = 200) -> str:
    """The first line of what an error says."""
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return (said.strip().splitlines() or [''])[0][:most]
