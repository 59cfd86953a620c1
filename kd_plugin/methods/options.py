"""A method and its options in one line, ``dist:tau=4,relation=cosine``."""

from __future__ import annotations

import ast
from typing import Any


def read(text: str) -> dict[str, Any]:
    """The dict that a line stands for, ``type`` first.

    Values are numbers, True, False, None, strings, lists and ``dict(…)``, as in a config; a word
    needs no quotes.

    Args:
        text: A name, or ``NAME:key=value,…``.

    Raises:
        ValueError: It cannot be read, with an example.
    """
    name, _, options = text.partition(':')
    try:
        found = _value(ast.parse(f'dict({options})', mode='eval').body)
        if not name or not isinstance(found, dict) or 'type' in found:
            raise ValueError('no name, no options or a second name')
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f'{text!r} is no method with options; write them like dist:tau=4,relation=cosine or '
            'dist-plus:acclimation=dict(lr_mult=0.1)'
        ) from error
    return dict(type=name, **found)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(part) for part in node.elts]
    if isinstance(node, ast.Call):
        keys = [part.arg for part in node.keywords]
        if getattr(node.func, 'id', None) != 'dict' or node.args or None in keys:
            raise ValueError('not dict(key=value)')
        return {part.arg: _value(part.value) for part in node.keywords}
    return ast.literal_eval(node)
