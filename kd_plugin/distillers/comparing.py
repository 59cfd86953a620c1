"""What student and teacher say of the same images, outside of training."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from kd_plugin.losses.class_axes import LogitLoss
from kd_plugin.rng import preserved_random_state

from .entry import Tapped
from .step import TrainingStep


class Comparing(TrainingStep):
    """Reads both models for those who measure or draw; nothing is trained."""

    @torch.no_grad()
    def compare_logits(self, inputs: Tensor, data_samples: list) -> dict[str, Tapped]:
        """What both models say of the same boxes or pixels, by entry with a loss on logits.

        Both models stay in the modes they are in; random numbers drawn (RoI sampling) do not
        count. The teacher is the acclimated one.

        Args:
            inputs: Images [N, 3, H, W], preprocessed for the student.
            data_samples: The images' annotations.

        Raises:
            ValueError: A head without class targets.
        """
        logits = [entry for entry in self.entries if isinstance(entry.loss, LogitLoss)]
        labels = {entry.name: self._label_source(entry) for entry in logits}
        with preserved_random_state():
            return self._compare(inputs, data_samples, logits, labels)[1]

    @torch.no_grad()
    def compare_maps(self, inputs: Tensor, data_samples: list) -> dict[str, Tapped]:
        """The maps [N, D, H, W] of both models, the student's aligned, by entry that has some.

        Entries in RoI heads have none, as they read boxes. The rest is as in
        :meth:`compare_logits`, and no annotations are needed.

        Args:
            inputs: Images [N, 3, H, W], preprocessed for the student.
            data_samples: The images' sizes, as the preprocessor gives them.
        """
        entries = [entry for entry in self.entries if self._sources[entry.name] is None]
        found = {}
        with preserved_random_state():
            heard = self._read(self.student, inputs, {None: {e.student for e in entries}}, {})
            taught = self._teach(inputs, data_samples, {None: {e.teacher for e in entries}}, {})
        for entry in entries:
            student = entry.levels.select('student', heard[None, entry.student])
            teacher = entry.levels.select('teacher', taught[None, entry.teacher])
            with suppress(ValueError):  # in evaluation it gives other levels than in training
                pair = entry.common(Tapped(entry.align(student, teacher), teacher, None))
                shapes = [[level.shape for level in side] for side in (pair.student, pair.teacher)]
                if shapes[0] == shapes[1] and all(len(shape) == 4 for shape in shapes[0]):
                    found[entry.name] = pair
        return found
