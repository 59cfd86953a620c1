"""The runs that a report is of: what their work folders hold, and what each is to the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from by_method import run_name
from mmengine.config import Config
from results import read_result

from kd_plugin.analysis.curves import Curves, read_scalars
from kd_plugin.teacher import read_config

TEACHER, ALONE, LONGER, DISTILLED, OTHER = (
    'teacher', 'student alone', 'student alone, for longer', 'distilled', 'other')
#: In the order of a table.
ROLES = TEACHER, ALONE, LONGER, DISTILLED, OTHER


@dataclass
class Work:
    """One run of training.

    Attributes:
        folder: Its work folder.
        cfg: Its config, as training wrote it down.
        curves: Its scalars.
        result: Its small result file of tools/run_experiments.py, None without.
        role: One of :data:`ROLES`, what it is to the other runs.
        label: Its name in the report.
    """

    folder: Path
    cfg: Config
    curves: Curves
    result: dict[str, Any] | None
    role: str = OTHER
    label: str = ''
    checkpoint: Path | None = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoint = last_checkpoint(self.folder)

    @property
    def distills(self) -> bool:
        """Whether it has a teacher."""
        return 'student' in self.cfg.model and 'teacher' in self.cfg.model

    @property
    def student(self) -> Any:
        """Its plain model's dict."""
        return self.cfg.model.student if self.distills else self.cfg.model

    @property
    def method(self) -> str:
        """The method's name with its options, or the names of its entries."""
        if not self.distills:
            return ''
        distill = self.cfg.model.distill
        if isinstance(distill, str):
            return distill
        if isinstance(distill, (list, tuple)):
            return ' + '.join(str(entry.get('name')) for entry in distill)
        options = ','.join(f'{key}={value}' for key, value in distill.items() if key != 'type')
        return run_name('', f'{distill["type"]}:{options}' if options else distill['type'],
                        True).strip('_')  # fmt: skip

    @property
    def length(self) -> tuple[int, str]:
        """How long it trains: a number, and ``'iterations'`` or ``'epochs'``."""
        train = self.cfg.train_cfg or {}
        if train.get('max_epochs'):
            return train['max_epochs'], 'epochs'
        return train.get('max_iters') or 0, 'iterations'

    @property
    def seed(self) -> Any:
        """Of its random numbers, None for any."""
        return (self.cfg.get('randomness') or {}).get('seed')


def last_checkpoint(folder: Path) -> Path | None:
    """The weights that training ended with: the student's own file before mmengine's."""
    student = folder / 'student_last.pth'
    if student.exists():
        return student
    mark = folder / 'last_checkpoint'
    if mark.exists():  # by its name, as the folder may have been moved
        named = folder / Path(mark.read_text().strip()).name
        if named.exists():
            return named
    found = [*folder.glob('iter_*.pth'), *folder.glob('epoch_*.pth')]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def read_work(folder: Path, results: Path) -> Work:
    """A run from its work folder.

    Args:
        folder: Where mmengine trained it.
        results: Of result files; one at the end of whose path stands the end of the folder's,
            ``NAME/seed-N``, is the run's.

    Raises:
        ValueError: There is no run; with what to write.
    """
    configs = sorted(folder.glob('*/vis_data/config.py')) or sorted(
        folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise ValueError(
            f'{folder} holds no run: neither */vis_data/config.py nor a config; write the folder '
            'that training wrote to (--work-dir, or work_dirs/NAME)')
    cfg = Config.fromfile(configs[-1], import_custom_modules=False)
    if 'model' not in cfg:
        raise ValueError(f'{configs[-1]} has no model, so {folder} holds no training run')
    end = folder.resolve()
    files = sorted(results.glob(f'**/{end.parent.name}/{end.name}.json'))
    return Work(folder, cfg, read_scalars(folder), read_result(files[0]) if files else None)


def read_works(folders: list[Path], results: Path) -> list[Work]:
    """All runs with their roles and labels, in the order of a table.

    Raises:
        ValueError: A folder holds no run, or the runs are of unequal tasks.
    """
    works = [read_work(folder, results) for folder in dict.fromkeys(folders)]
    scopes = {work.cfg.get('default_scope') for work in works}
    if len(scopes) > 1:
        raise ValueError(f'the runs are of {" and ".join(sorted(map(str, scopes)))}; '
                         'write a report for each')  # fmt: skip
    distilled = [work for work in works if work.distills]
    plain = [work for work in works if not work.distills]
    for work in distilled:
        work.role = DISTILLED
    for work in plain:
        if any(_teaches(work, other) for other in distilled):
            work.role = TEACHER
        elif not distilled or any(work.cfg.model == other.student for other in distilled):
            work.role = ALONE
    alone = [work for work in works if work.role == ALONE]
    reference = [work.length for work in distilled] or [min(w.length for w in alone or works)]
    for work in alone:
        if all(work.length[1] == unit and work.length[0] > most for most, unit in reference):
            work.role = LONGER
    for work in works:
        work.label = {DISTILLED: work.method, OTHER: work.folder.name,
                      LONGER: f'{ALONE}, {work.length[0]} {work.length[1]}'
                      }.get(work.role, work.role)  # fmt: skip
    works.sort(key=lambda work: ROLES.index(work.role))
    _tell_apart(works)
    return works


def _tell_apart(works: list[Work]) -> None:
    """Labels of their own, by seeds where these differ, otherwise by folders."""
    for label in {work.label for work in works}:
        same = [work for work in works if work.label == label]
        if len(same) < 2:
            continue
        seeds = len({work.seed for work in same}) == len(same)
        for number, work in enumerate(same):
            own = f'seed {work.seed}' if seeds else f'{work.folder.name} ({number + 1})'
            work.label += f', {own}'


def _teaches(work: Work, other: Work) -> bool:
    """Whether a run trained another's teacher."""
    teacher = other.cfg.model.teacher
    checkpoint = teacher.get('checkpoint')
    if checkpoint and '://' not in checkpoint and (
            Path(checkpoint).resolve().parent == work.folder.resolve()):
        return True
    try:
        return bool(read_config(teacher.config).model == work.cfg.model)
    except Exception:  # of a package or a folder that is not here
        return False


def first(works: list[Work], role: str) -> Work | None:
    """The first run of a role, None without."""
    return next((work for work in works if work.role == role), None)
