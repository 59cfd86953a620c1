"""Find the student inside a checkpoint, whichever tool distilled it."""

from __future__ import annotations

from typing import Any

# Where distillation tools keep the student, the more specific first: mmrazor 0.x (and MasKD, which
# builds on it), mmrazor 1.x, and wrappers that call it what it is.
PREFIXES = ('architecture.model.', 'architecture.', 'student.')
# What such tools keep beside it.
_OTHERS = ('teacher.', 'distiller.', 'connectors.', 'mask_modules.', 'ema_', 'data_preprocessor.')


def student_state(checkpoint: dict) -> dict[str, Any]:
    """The student's weights under the keys of its plain model.

    Args:
        checkpoint: What a file holds: a state dict, or a dict with one under ``state_dict``.

    Raises:
        ValueError: Nothing that looks like a student is in it.
    """
    state = checkpoint.get('state_dict', checkpoint)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    for prefix in PREFIXES:
        found = {key.removeprefix(prefix): value for key, value in state.items()
                 if key.startswith(prefix)}  # fmt: skip
        if found:
            break
    else:
        found = {key: value for key, value in state.items() if not key.startswith(_OTHERS)}
    # A preprocessor's mean and std come from the config in plain mmdet and mmseg.
    found = {k: v for k, v in found.items() if not k.startswith('data_preprocessor.')}
    if not found:
        raise ValueError(
            f'no student is in the checkpoint: its keys start with '
            f'{sorted({key.partition(".")[0] for key in state})}; students are looked for under '
            f'{list(PREFIXES)} or without a prefix'
        )
    return found
