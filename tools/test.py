"""Evaluate a student, or with --teacher the teacher of a distillation config, on its test data."""

import argparse
import os
import os.path as osp

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from kd_plugin.teacher import load_strictly, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help="the student's checkpoint")
    parser.add_argument('--teacher', action='store_true',
                        help='evaluate the teacher on the same data, with its own checkpoint')
    parser.add_argument('--work-dir', help='folder for logs and metrics')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='override settings of the config, key=value')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
                        default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    if (args.checkpoint is None) != args.teacher:
        parser.error('write a checkpoint of the student, or --teacher and none')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    cfg.load_from = None
    if args.teacher:
        if 'teacher' not in cfg.model:
            raise SystemExit(f'{args.config} has no model.teacher')
        teacher = cfg.model.teacher
        cfg.model = read_config(teacher.config).model
        runner = Runner.from_cfg(cfg)
        load_strictly(runner.model, teacher.checkpoint)
    else:
        # The checkpoint is a plain student, so the teacher need not be there.
        cfg.model = cfg.model.get('student', cfg.model)
        cfg.load_from = args.checkpoint
        runner = Runner.from_cfg(cfg)
    runner.test()


if __name__ == '__main__':
    main()
