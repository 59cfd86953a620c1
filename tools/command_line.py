"""The arguments that training and testing share."""

import argparse
import os
import os.path as osp

from by_method import with_method
from mmengine.config import Config, DictAction

import kd_plugin  # noqa: F401  (before any config is read: it makes 'mmseg::…' name a config)
from kd_plugin.methods import METHODS

DISTILLERS = {'mmdet': 'DetectorDistiller', 'mmseg': 'SegmentorDistiller'}


def common_parser(description: str) -> argparse.ArgumentParser:
    """A parser of the config, the work folder, overrides and the launcher."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
                        default='none', help='job launcher')
    # torch's launcher passes the dashed form.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """The config, and overrides of it."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='override settings of the config, key=value')


def add_distillation(parser: argparse.ArgumentParser) -> None:
    """A teacher and a method, for a plain config or in place of a pair's."""
    group = parser.add_argument_group('distillation of a plain config')
    group.add_argument('--teacher', help="the teacher's config, a file or 'mmdet::…' name")
    group.add_argument('--teacher-checkpoint', help="the teacher's weights, a path or address")
    group.add_argument('--method', help=f"one of {', '.join(sorted(METHODS.module_dict))}, with "
                       'options as in dist:tau=4; none is the student alone')


def taught(cfg: Config, args: argparse.Namespace, parser: argparse.ArgumentParser) -> Config:
    """A config with the teacher and the method that the arguments name.

    Raises:
        SystemExit: They do not go together, or with the config.
    """
    given = [args.teacher, args.teacher_checkpoint]
    if any(given) and not all([*given, args.method]):
        parser.error('--teacher, --teacher-checkpoint and --method go together')
    if args.teacher:
        return distilled(cfg, args.teacher, args.teacher_checkpoint, args.method)
    if args.method:
        try:
            return with_method(cfg, args.method)
        except ValueError as error:
            raise SystemExit(str(error)) from error
    return cfg


def open_config(args: argparse.Namespace) -> Config:
    """The config of :func:`add_config`, its overrides in it.

    Raises:
        SystemExit: There is no such file.
    """
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    return cfg


def load_config(name: str) -> Config:
    """A config by its path, or by its name in an installed package (``'mmdet::…'``).

    Raises:
        SystemExit: There is no such file.
    """
    if '::' not in name:
        if not osp.isfile(name):
            raise SystemExit(
                f"{name} is no file (looked from {os.getcwd()}); write a path, or "
                "mmdet::folder/name.py for a config of an installed package; the project's own "
                'are in the folder that python -m kd_plugin names')
        return Config.fromfile(name)
    try:
        cfg = Config.fromstring(f'_base_ = {name!r}', '.py')
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f'{name} is no config: {error}') from error
    object.__setattr__(cfg, '_filename', name)  # it has no file of its own
    return cfg


def read_config(args: argparse.Namespace) -> Config:
    """The config that the common arguments describe."""
    # mmengine names this device to DDP; its MPI launcher selects the device without setting it.
    local_rank = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', str(args.local_rank))
    os.environ.setdefault('LOCAL_RANK', local_rank)
    cfg = open_config(args)
    cfg.launcher = args.launcher
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    return cfg


def distilled(cfg: Config, teacher: str, checkpoint: str, method: str) -> Config:
    """A plain model's config with its model taught by another.

    Args:
        cfg: The student's, with its data and schedule.
        teacher: The teacher's config, a file or a package's name.
        checkpoint: The teacher's weights.
        method: A method's name.

    Raises:
        SystemExit: The config distils already, or is of neither mmdet nor mmseg.
    """
    scope = cfg.get('default_scope')
    if 'student' in cfg.model:
        raise SystemExit(f'{cfg.filename} distils already; give the config of the plain student')
    if scope not in DISTILLERS:
        raise SystemExit(
            f"{cfg.filename} has default_scope={scope!r}; distillation knows {list(DISTILLERS)}")
    cfg.model = dict(
        type=DISTILLERS[scope], student=cfg.model,
        teacher=dict(config=teacher, checkpoint=checkpoint), distill=method)
    # What is written beside the checkpoints can be trained by any tool.
    imports = cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    cfg.custom_imports = dict(imports, imports=[*imports['imports'], 'kd_plugin'])
    return cfg
