"""Checkpoints of a distiller: the plain student's keys, and what a resumed run needs beside."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from .parts import Parts


class Checkpoints(Parts, nn.Module):
    """Reads and writes a distiller's state as the plain student's."""

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any
    ) -> None:
        """Take a plain student's keys; entries keep their own weights.

        Keys by this module's own paths serve as well: some hooks put back what they found by
        ``named_modules``.
        """
        student = f'{prefix}student.'
        for key in [key for key in state_dict if key.startswith(prefix)]:
            if not key.startswith(student):
                state_dict[student + key.removeprefix(prefix)] = state_dict.pop(key)
        for key, value in self.distillation_state().items():
            state_dict[prefix + key] = value
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def distillation_state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside the student.

        Aligners, losses, the teacher's changes, and how far the random numbers of views are
        and how many images without labels were seen.
        """
        return copy.deepcopy(self.own_modules().state_dict())

    def load_distillation_state(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`distillation_state` returned.

        Raises:
            ValueError: It was written with other distill entries or acclimated modules.
        """
        try:
            self.own_modules().load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                'the checkpoint was written with another distill, acclimation, views or '
                'unlabelled than this config has; resume with the config it was written with: '
                f'{error}'
            ) from error

    def own_modules(self) -> nn.ModuleDict:
        """What is neither the student nor frozen."""
        own = nn.ModuleDict({'entries': self.entries})
        if self.acclimation is not None:
            own['acclimation'] = self.acclimation
        if self.views is not None:
            own['views'] = self.views
        if self.unlabelled is not None:
            own['unlabelled'] = self.unlabelled
        return own


def keep_student_keys(
    module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict
) -> None:
    """State-dict hook: the student's keys without their prefix, and no other."""
    student = f'{prefix}student.'
    for key in [key for key in state_dict if key.startswith(prefix)]:
        value = state_dict.pop(key)
        if key.startswith(student):
            state_dict[prefix + key.removeprefix(student)] = value
    # BatchNorm reads the version of its state from the metadata of its path.
    metadata = getattr(state_dict, '_metadata', {})
    for path in [path for path in metadata if path.startswith(student)]:
        metadata[prefix + path.removeprefix(student)] = metadata.pop(path)
