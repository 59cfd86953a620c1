"""Train any mmdet or mmseg config, with or without distillation."""

from command_line import common_parser, read_config
from mmengine.registry import RUNNERS

from kd_plugin.runner import StopHook


def main() -> None:
    parser = common_parser(__doc__)
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate to the batch size')
    parser.add_argument('--resume', nargs='?', const='auto',
                        help='resume from this checkpoint; without a value, from the latest')
    args = parser.parse_args()
    cfg = read_config(args)
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
