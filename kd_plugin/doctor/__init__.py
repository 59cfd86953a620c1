"""What is looked at before the first iteration; ``tools/doctor.py`` walks through it.

Each check takes what it looks at and returns findings; nothing is printed or written here.
"""

from .finding import BAD, GOOD, LOOK, Finding, from_error, is_pointless, screen

__all__ = ['BAD', 'GOOD', 'LOOK', 'Finding', 'from_error', 'is_pointless', 'screen']
