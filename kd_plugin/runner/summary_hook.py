"""What came of a training, in the last lines of its log."""

from __future__ import annotations

import os.path as osp
import re
from numbers import Real
from pathlib import Path

from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from kd_plugin.analysis.curves import metric_of, read_scalars
from kd_plugin.distillers import DetectorDistiller

from .unwrapped import unwrapped

_USE = {
    'mmdet': ('from mmdet.apis import inference_detector, init_detector',
              'model = init_detector({config!r}, {weights!r}, device={device!r})',
              "result = inference_detector(model, 'image.jpg')"),
    'mmseg': ('from mmseg.apis import inference_model, init_model',
              'model = init_model({config!r}, {weights!r}, device={device!r})',
              "result = inference_model(model, 'image.jpg')"),
}  # fmt: skip


@HOOKS.register_module()
class SummaryHook(Hook):
    """Say at the end how good the student is, what it gained, where its file is, how to use it.

    Registered by itself for every runner of a distiller.

    Args:
        baseline: Work folder of the student trained alone: its accuracy on the validation data is
            read there, best beside best and last beside last.

    Raises:
        ValueError: A baseline in which no accuracy is found.
    """

    # The last to speak; what it speaks of is written by then.
    priority = 'LOWEST'

    def __init__(self, baseline: str | None = None) -> None:
        self.baseline = baseline
        self._last: dict[str, float] = {}
        self._alone = {} if baseline is None else read_scalars(Path(baseline))
        if baseline is not None and metric_of(self._alone) is None:
            raise ValueError(
                f'baseline={baseline!r} holds no accuracy of a validation '
                '(*/vis_data/scalars.json); write the work folder of the student trained alone, '
                'with validation and the LocalVisBackend, or leave it out')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Remember the last accuracy."""
        self._last = {name: float(value) for name, value in (metrics or {}).items()
                      if isinstance(value, Real)}  # fmt: skip

    def after_train(self, runner: Runner) -> None:
        """Say it."""
        lines = [*self._accuracy(runner), *self._files(runner)]
        runner.logger.info('\n'.join(['Training is done.', *lines]))

    def _accuracy(self, runner: Runner) -> list[str]:
        lines = []
        told: dict[str, tuple[str, float]] = {}
        for metric, score, where in best_scores(runner):
            lines.append(f'  best {metric} {score:.4g}, {where}')
            told['best'] = metric, score
        final = metric_of(list(self._last))
        if final is not None:
            lines.append(f'  last {final} {self._last[final]:.4g}')
            told['last'] = final, self._last[final]
        if not lines:
            return ['  no validation: nothing is known of its accuracy']
        for kind, (metric, score) in told.items():
            alone = self._alone.get(metric)
            if alone:
                reached = max(alone.values()) if kind == 'best' else alone[max(alone)]
                lines.append(f'  the student alone, {kind}: {reached:.4g}; '
                             f'gain {score - reached:+.4g}')
        if self.baseline is None:
            lines.append('  gain: not known; train the student alone and write its work folder as '
                         'SummaryHook(baseline=…) or tools/train.py --baseline')
        return lines

    def _files(self, runner: Runner) -> list[str]:
        found = [name for name in ('student_best.pth', 'student_last.pth')
                 if osp.isfile(osp.join(runner.work_dir, name))]
        if not found:  # several metrics, each with a best of its own
            return []
        weights = osp.join(runner.work_dir, found[0])
        name = osp.basename(runner.cfg.filename) if runner.cfg.filename else (
            f'{runner.timestamp}.py')
        model = unwrapped(runner.model)
        scope = 'mmdet' if isinstance(model, DetectorDistiller) else 'mmseg'
        device = next(model.parameters()).device.type
        config = osp.join(runner.work_dir, name)
        lines = [line.format(config=config, weights=weights, device=device)
                 for line in _USE[scope]]  # fmt: skip
        return [f'  the student alone, without its teacher: {weights}',
                '  it is used so (or with the config of the student, without kd_plugin):',
                *(f'    {line}' for line in lines)]


def best_scores(runner: Runner) -> list[tuple[str, float, str]]:
    """Metric, best score and when it was reached, of each metric that ``save_best`` names."""
    info = runner.message_hub.runtime_info
    names = [name for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best
             for name in hook.key_indicators or ()]  # fmt: skip
    found = []
    for name in names:
        suffix = '' if len(names) == 1 else f'_{name}'
        score, path = info.get(f'best_score{suffix}'), info.get(f'best_ckpt{suffix}')
        when = re.search(r'_(iter|epoch)_(\d+)\.pth$', path or '')
        if score is not None and when:
            found.append((name, float(score), f'{when[1]} {when[2]}'))
    return found
