"""How alike student and teacher become, measured while training validates."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from kd_plugin.analysis.relations import (
    RowSample,
    measure,
    resizes_before_loading,
    samples,
)

from .unwrapped import unwrapped


@HOOKS.register_module()
class RelationHook(Hook):
    """Log the relations of student and teacher on validation data (DIST+ Fig. 4 and 7).

    For each distill entry with a loss on logits, ``relation/<entry>/<measure>`` goes to whatever
    visualiser the runner has; see :func:`kd_plugin.analysis.relations.relations` for the
    measures. The validation pipeline must load annotations, as mmdet's and mmseg's own do.

    Args:
        batches: Only the first so many validation batches are measured.
        per_batch: At most so many rows (boxes or pixels) of each are kept.
    """

    def __init__(self, batches: int = 50, per_batch: int = 40) -> None:
        self.batches, self.per_batch = batches, per_batch
        self._samples: dict[str, RowSample] = {}

    def before_val_epoch(self, runner: Runner) -> None:
        """Start anew."""
        self._samples = samples(unwrapped(runner.model), self.per_batch)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure one batch."""
        if batch_idx < self.batches and self._samples:
            resized = resizes_before_loading(runner.val_dataloader.dataset)
            measure(unwrapped(runner.model), data_batch, self._samples, resized)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Report."""
        for name, sample in self._samples.items():
            found = sample.relations()
            runner.visualizer.add_scalars(
                {f'relation/{name}/{measure}': value for measure, value in found.items()},
                step=runner.iter)  # fmt: skip
            shown = ', '.join(f'{measure} {value:.3f}' for measure, value in found.items())
            runner.logger.info(f"Relations of student and teacher at '{name}': {shown}")
        self._samples = {}
