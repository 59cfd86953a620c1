"""The arguments that training and testing share."""

import argparse
import os
import os.path as osp

from mmengine.config import Config, DictAction

import kd_plugin  # noqa: F401  (before any config is read: it makes 'mmseg::…' name a config)


def common_parser(description: str) -> argparse.ArgumentParser:
    """A parser of the config, the work folder, overrides and the launcher."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='override settings of the config, key=value')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
                        default='none', help='job launcher')
    # torch's launcher passes the dashed form.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def read_config(args: argparse.Namespace) -> Config:
    """The config that the common arguments describe."""
    # mmengine names this device to DDP; its MPI launcher selects the device without setting it.
    local_rank = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', str(args.local_rank))
    os.environ.setdefault('LOCAL_RANK', local_rank)
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    return cfg
