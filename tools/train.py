"""Train any mmdet or mmseg config, with or without distillation.

The config of a plain model is distilled from another without a config file of its own:

    python tools/train.py STUDENT.py --teacher TEACHER.py --teacher-checkpoint TEACHER.pth \\
        --method dist-plus

With --method alone, that of a pair's config is replaced.
"""

from by_method import with_method
from command_line import common_parser, distilled, read_config
from mmengine.registry import RUNNERS

from kd_plugin.methods import METHODS
from kd_plugin.runner import StopHook


def main() -> None:
    parser = common_parser(__doc__)
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate to the batch size')
    parser.add_argument('--resume', nargs='?', const='auto',
                        help='resume from this checkpoint; without a value, from the latest')
    group = parser.add_argument_group('distillation of a plain config')
    group.add_argument('--teacher', help="the teacher's config, a file or 'mmdet::…' name")
    group.add_argument('--teacher-checkpoint', help="the teacher's weights, a path or address")
    group.add_argument('--method', help=f"one of {', '.join(sorted(METHODS.module_dict))}, with "
                       'options as in dist:tau=4; none is the student alone')
    args = parser.parse_args()
    given = [args.teacher, args.teacher_checkpoint]
    if any(given) and not all([*given, args.method]):
        parser.error('--teacher, --teacher-checkpoint and --method go together')
    cfg = read_config(args)
    if args.teacher:
        cfg = distilled(cfg, args.teacher, args.teacher_checkpoint, args.method)
    elif args.method:
        try:
            cfg = with_method(cfg, args.method)
        except ValueError as error:
            raise SystemExit(str(error)) from error
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
    runner = RUNNERS.build(cfg)  # a Runner, or what runner_type says
    if not any(isinstance(hook, StopHook) for hook in runner.hooks):
        runner.register_hook(StopHook())  # a model without a teacher
    runner.train()


if __name__ == '__main__':
    main()
