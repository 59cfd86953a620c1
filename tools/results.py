"""Reading result files: values and nothing else, or a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Metrics of one run; a larger file is something else.
_LARGEST = 10_000_000


def read_result(path: Path) -> dict[str, Any]:
    """What a run's result file holds.

    Args:
        path: Of the JSON file.

    Raises:
        ValueError: It is damaged, or no result; with its name and what to do.
    """
    again = 'delete it and run tools/run_experiments.py again'
    if path.stat().st_size > _LARGEST:
        raise ValueError(f'{path} has {path.stat().st_size} bytes and is no result; {again}')
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is damaged ({type(error).__name__}); {again}') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path} holds a {type(found).__name__} and is no result; {again}')
    return found


def rows(log: Path) -> Iterator[dict[str, Any]]:
    """The lines of a training's numbers, but one that a killed process left half written."""
    for line in log.read_text(errors='replace').splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
