"""Train any mmdet or mmseg config, with or without distillation.

The config of a plain model is distilled from another without a config file of its own:

    python tools/train.py STUDENT.py --teacher TEACHER.py --teacher-checkpoint TEACHER.pth \\
        --method dist-plus

With --method alone, that of a pair's config is replaced. With --doctor, tools/doctor.py looks at
teacher, data and losses first, and training starts only if it would not be pointless. With
--pictures, what student and teacher see is drawn on the way (DistillationPicturesHook).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from command_line import add_distillation, common_parser, read_config, taught
from mmengine.config import Config
from mmengine.registry import RUNNERS

from kd_plugin.runner import StopHook
from kd_plugin.runner.lock import WorkFolderInUse


def consult(cfg: Config) -> None:
    """Let the doctor look at a config, in a process of its own: training starts as without it.

    Raises:
        SystemExit: Training would be pointless.
    """
    doctor = Path(__file__).resolve().with_name('doctor.py')
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(cfg.filename).name
        cfg.dump(file)
        done = subprocess.run([sys.executable, str(doctor), str(file)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    parser = common_parser(__doc__)
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate to the batch size')
    parser.add_argument('--resume', nargs='?', const='auto',
                        help='resume from this checkpoint; without a value, from the latest')
    parser.add_argument('--doctor', action='store_true',
                        help='look first whether it can teach; train only if it can')
    parser.add_argument('--pictures', type=int, metavar='N',
                        help='draw validation images every N iterations, as both models see them')
    parser.add_argument('--baseline', metavar='WORK_DIR',
                        help='of the student trained alone: the summary at the end names the gain')
    add_distillation(parser)
    args = parser.parse_args()
    if args.doctor and args.launcher != 'none':
        parser.error('--doctor looks in one process; run tools/doctor.py before the launcher')
    cfg = taught(read_config(args), args, parser)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SystemExit(f'{args.config} has no auto_scale_lr.base_batch_size to scale from')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.pictures is not None:
        hook = dict(type='mmengine.DistillationPicturesHook', interval=args.pictures)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    if args.baseline is not None:
        hook = dict(type='mmengine.SummaryHook', baseline=args.baseline)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    if args.doctor:
        consult(cfg)
    runner = RUNNERS.build(cfg)  # a Runner, or what runner_type says
    if not any(isinstance(hook, StopHook) for hook in runner.hooks):
        runner.register_hook(StopHook())  # a model without a teacher
    try:
        runner.train()
    except WorkFolderInUse as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
