"""Where the real photographs are that some tests read, and what a folder holds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

VARIABLE = 'KD_PLUGIN_PHOTOGRAPHS'
FOLDER = Path(os.environ.get(VARIABLE, '.')).resolve()
needed = pytest.mark.skipif(
    VARIABLE not in os.environ,
    reason=f'{VARIABLE} does not name the folder of camvid/ and bccd/')


def contents(root: Path) -> dict[str, str]:
    """Hashes of the files below a folder by their relative path."""
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob('*') if path.is_file()}  # fmt: skip
