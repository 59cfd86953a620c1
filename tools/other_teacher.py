"""A pair's config with another teacher, or with one that has trained for another time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

TEACHER = 'teacher', 'teacher_iters', 'teacher_epochs'  # options that go with any method


def teacher_length(options: dict[str, Any]) -> str | None:
    """For how long a method's options let the teacher train, as the method of its own run."""
    lengths = [f'{unit}={options[f"teacher_{unit}"]}' for unit in ('iters', 'epochs')
               if f'teacher_{unit}' in options]  # fmt: skip
    return f'none:{",".join(lengths)}' if lengths else None


def choose_teacher(cfg: Config, own: Config, checkpoint: str) -> None:
    """Let a pair be taught by another model.

    Args:
        cfg: Of the pair; it is changed.
        own: The teacher's config, of a plain model.
        checkpoint: Folder of its run.

    Raises:
        ValueError: The teacher's config is that of a pair.
    """
    if 'student' in own.model:
        raise ValueError(
            f'teacher={Path(own.filename).name!r} is the config of a pair; write that of a model')
    unit = 'iter' if 'max_iters' in own.train_cfg else 'epoch'
    cfg.model.teacher.update(
        config=own.filename,
        checkpoint=f'{checkpoint}/{unit}_{own.train_cfg[f"max_{unit}s"]}.pth')
