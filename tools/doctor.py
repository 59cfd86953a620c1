"""Look before the first iteration: can this teacher teach this student on these data?

    python tools/doctor.py PAIR.py
    python tools/doctor.py STUDENT.py --teacher TEACHER.py --teacher-checkpoint TEACHER.pth \\
        --method dist-plus

Whether the teacher's file loads whole and what it scores on your validation data, whether classes
and images mean the same to both, what is compared, how strong each loss is beside the task, and
what it all costs. One line each: good, look (a person should), or bad; behind an arrow, what to
write. Exit status 1 if training would be pointless. Nothing is trained, and nothing is written
but the file of --json.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from command_line import add_config, add_distillation, open_config, taught
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from step_costs import build, endless, steps, unlabelled_of
from torch import nn

from kd_plugin.distillers.class_map import read_class_names
from kd_plugin.doctor import (
    BAD,
    LOOK,
    Finding,
    class_names,
    class_order,
    costs,
    from_error,
    images,
    is_pointless,
    losses,
    score,
    screen,
    teacher_file,
)
from kd_plugin.losses.class_axes import LogitLoss
from kd_plugin.runner.unlabelled_data import read_unlabelled
from kd_plugin.teacher import read_config

_BATCHES = 3  # of training, on which losses are measured
# Where metrics write what nobody asked for here.
_OUTPUTS = 'outfile_prefix', 'output_dir', 'format_only'


class Doctor:
    """Goes through one config; what was found stays in ``findings``.

    Args:
        cfg: Of a pair; it is changed.
        folder: For what runners write.
        batches: Of validation data; None for all.
        student: Checkpoint of the student trained alone, or None.
        say: Is told what goes on.
    """

    def __init__(
        self, cfg: Config, folder: str, batches: int | None, student: str | None,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.cfg, self.folder, self.batches, self.student = cfg, folder, batches, student
        self.say, self.findings = say, list[Finding]()
        self.scope = cfg.get('default_scope', 'mmdet')
        self.alone: Runner | None = None
        self.taught: Runner | None = None
        self.val: Any = None  # the loop of validation
        self.labels = True  # whether some training images have them

    def examine(self) -> list[Finding]:
        """All of it, as far as it can be looked at."""
        init_default_scope(self.scope)
        options = dict(self.cfg.model.teacher)
        self.say('loads the teacher')
        teacher, found = teacher_file.load(options, self.scope)
        self.findings.append(found)
        kept = teacher_file.contents(options) if teacher is not None else {}
        self.say('builds the student with its data')
        self.alone = self._tried('your config', lambda: self._build(self._plain()))
        if self.alone is None:
            return self.findings
        self.val = self._tried('validation data', self._validation)
        self.say('builds both')
        own = copy.deepcopy(self.cfg)
        if teacher is None:
            own.model.teacher.checkpoint = None
        self.taught = self._tried('distillation', lambda: self._build(own))
        names = self._tried('class names', lambda: self._names(kept))
        if teacher is not None and self.val is not None:
            self._tried("teacher's score", lambda: self._score(teacher, kept, names))
        if self.taught is not None:
            self._tried('losses', lambda: self._losses(found.verdict != BAD))
            self._tried('a step', self._costs)
        return self.findings

    def _tried(self, name: str, look: Callable[[], Any]) -> Any:
        """What a look returns; None where it raises, of which a line is made."""
        try:
            return look()
        except Exception as error:  # of the user's config, data, metrics or machine
            self.findings.append(from_error(name, error))
            return None

    def _plain(self) -> Config:
        """The student's config; where no image has labels, with those images as its data."""
        cfg = copy.deepcopy(self.cfg)
        cfg.model = cfg.model.student
        options = cfg.pop('unlabelled', None)
        plan = read_unlabelled(options, cfg.train_dataloader) if options else None
        if plan is not None and not plan.labelled:
            cfg.train_dataloader, self.labels = plan.loader, False
        return cfg

    def _build(self, cfg: Config) -> Runner:
        """The config's own runner, its student as training would start with it."""
        for key in ('runner_type', 'strategy'):
            cfg.pop(key, None)
        cfg.launcher = 'none'
        for key in ('val_evaluator', 'test_evaluator'):
            for metric in _listed(cfg.get(key)):
                for option in _OUTPUTS:
                    metric.pop(option, None)
        if not cfg.get('val_dataloader'):
            for part in ('dataloader', 'evaluator'):
                cfg[f'val_{part}'] = cfg.get(f'test_{part}')
            cfg.val_cfg = cfg.val_dataloader and dict(type='ValLoop')
        runner = build(cfg, self.folder)
        runner.load_or_resume()
        if not torch.cuda.is_available():
            for model in _models(runner):
                revert_sync_batchnorm(model)
        return runner

    def _validation(self) -> Any:
        """The loop of validation, or None and a line about it."""
        if self.alone.val_loop is None:
            self.findings.append(Finding('validation data', LOOK, 'there are none to score on',
                                         'val_dataloader, val_evaluator and val_cfg'))  # fmt: skip
        return self.alone.val_loop

    def _names(self, kept: dict[str, Any]) -> dict[str, list[str]] | None:
        """Compare class names; those that the config maps."""
        theirs, source = class_names.of_teacher(self.cfg.model.teacher, kept, self.scope)
        mapped = read_class_names(self.cfg.model.get('classes'), self.scope)
        own = class_names.of_data(self.alone.train_dataloader.dataset.metainfo)
        compares = self.taught is None or any(
            isinstance(entry.loss, LogitLoss) for entry in self.taught.model.entries)
        self.findings.append(class_names.compare(own, theirs, mapped, source, compares))
        if self.val is not None:
            seen = class_names.of_data(self.val.dataloader.dataset.metainfo)
            if seen != own:
                self.findings.append(Finding(
                    'class names', BAD, 'your training and your validation data name other '
                    f'classes: {own}, {seen}', 'the same metainfo in both'))  # fmt: skip
        return mapped

    def _score(
        self, teacher: nn.Module, kept: dict[str, Any], names: dict[str, list[str]] | None
    ) -> None:
        """The teacher on the validation data, and beside the student if that is known."""
        runner, data = self.alone, self.val.dataloader.dataset
        device = next(runner.model.parameters()).device
        metrics, seen, confusion = score.evaluate(
            teacher.to(device), runner, self.batches, names, partial(self._say_of, 'the teacher'))
        whole = seen == len(data)
        order = class_order.judge(confusion, list(data.metainfo['classes'] or ()))
        known = score.judge(metrics, teacher_file.claims(kept), seen, whole, confusion)
        if order is not None and order.verdict == BAD:  # which explains a low score
            known = Finding(known.name, LOOK, known.found.partition(': no better')[0],
                            values=known.values)  # fmt: skip
        if self.student is None and known.verdict != BAD:
            hint = '--student-checkpoint FILE, the student trained alone, shows its lead'
            known.write = known.write or hint
        self.findings.append(known)
        if order is not None and known.verdict != BAD:
            self.findings.append(order)
        metric = known.values.get('metric')
        if self.student is None or metric is None:
            return
        runner.load_checkpoint(self.student, map_location='cpu', strict=True)
        own, _, _ = score.evaluate(
            runner.model, runner, self.batches, None, partial(self._say_of, 'the student'))
        self.findings.append(score.ahead(
            known.values['score'], score.points(metric, own[metric]), metric))  # fmt: skip

    def _say_of(self, model: str, what: str) -> None:
        self.say(f'{model} {what}')

    def _losses(self, loaded: bool) -> None:
        """Images, taps and gradients, on real batches of training."""
        self.say('measures the losses on batches of training')
        distiller = self.taught.model.train()
        self.data = endless(self.taught.train_dataloader)
        batches = list(itertools.islice(self.data, _BATCHES))
        seen = distiller.data_preprocessor(batches[0], True)['inputs']
        student, teacher = distiller.data_preprocessor, distiller.teacher.data_preprocessor
        config = read_config(self.cfg.model.teacher.config)
        self.findings += [
            images.normalisation(student, teacher, seen),
            images.input_size(seen, distiller._frozen.renormalize, images.trained_size(config))]
        measured, taps = losses.measure(distiller, batches, unlabelled_of(self.taught))
        self.findings += losses.judge_taps(distiller, taps)
        self.findings.append(losses.judge_left_out(distiller))
        if loaded:  # random weights say nothing of a teacher's losses
            self.findings += losses.judge_gradients(distiller, measured)

    def _costs(self) -> None:
        """Time and memory of a step."""
        self.say('times some steps')
        runners, data = dict(taught=self.taught), dict(taught=self.data)
        if self.labels:
            runners['alone'] = self.alone
            data['alone'] = endless(self.alone.train_dataloader)
        running = {name: steps(runner, data[name]) for name, runner in runners.items()}
        found = costs.measure(
            {name: partial(next, one) for name, one in running.items()},
            {name: _models(runner) for name, runner in runners.items()})
        for one in running.values():
            one.close()
        self.findings += costs.judge(
            found.get('alone'), found['taught'], self.alone.train_loop.max_iters,
            min((entry.schedule.every for entry in self.taught.model.entries), default=1))


def _models(runner: Runner) -> list[nn.Module]:
    """The model that a runner trains, and its teacher."""
    teacher = getattr(runner.model, 'teacher', None)
    return [runner.model] if teacher is None else [runner.model, teacher]


def _listed(one: Any) -> list[Any]:
    return [] if one is None else list(one) if isinstance(one, (list, tuple)) else [one]


def _method(cfg: Config) -> str:
    distill = cfg.model.get('distill')
    if isinstance(distill, (list, tuple)):
        return f'{len(distill)} entries'
    return str(distill if isinstance(distill, str) else distill.get('type'))


def examine(
    cfg: Config, batches: int | None = None, student: str | None = None,
    say: Callable[[str], None] = lambda what: None,
) -> list[Finding]:  # fmt: skip
    """What there is to say of a pair's config; arguments as in :class:`Doctor`."""
    MMLogger.get_instance('doctor', log_level='ERROR')
    folder = tempfile.mkdtemp(prefix='doctor-')
    try:
        with redirect_stdout(None):
            return Doctor(cfg, folder, batches, student, say).examine()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse_args() -> tuple[argparse.Namespace, Config]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    add_distillation(parser)
    parser.add_argument('--batches', type=int, metavar='N',
                        help='of the validation data; by default all')  # fmt: skip
    parser.add_argument('--student-checkpoint', metavar='FILE',
                        help='the student trained alone, to see how far ahead the teacher is')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the findings there too')
    args = parser.parse_args()
    cfg = taught(open_config(args), args, parser)
    if 'teacher' not in cfg.model:
        parser.error(f'{args.config} has no teacher; write --teacher, --teacher-checkpoint and '
                     '--method, or the config of a pair')  # fmt: skip
    return args, cfg


def main() -> None:
    warnings.filterwarnings('ignore')
    args, cfg = parse_args()
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)

    def say(what: str) -> None:
        if sys.stderr.isatty():
            print(f'\r\033[K… {what}'[: width + 3], end='', file=sys.stderr, flush=True)

    method = _method(cfg)
    findings = examine(cfg, args.batches, args.student_checkpoint, say)
    if sys.stderr.isatty():
        print('\r\033[K', end='', file=sys.stderr)
    pointless = is_pointless(findings)
    print(screen(f'{args.config}, {method}', findings, width))
    if args.json:
        args.json.write_text(json.dumps(dict(
            config=args.config, method=method, pointless=pointless,
            findings=[vars(finding) for finding in findings]), indent=1, default=str) + '\n')
    raise SystemExit(int(pointless))


if __name__ == '__main__':
    main()
