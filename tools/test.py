"""Evaluate a student, or with --teacher the teacher of a distillation config, on its test data."""

from command_line import common_parser, read_config
from mmengine.runner import Runner

from kd_plugin import teacher as teachers
from kd_plugin.runner.distillation_hook import unwrapped


def main() -> None:
    parser = common_parser(__doc__)
    parser.add_argument('checkpoint', nargs='?', help="the student's checkpoint")
    parser.add_argument('--teacher', action='store_true',
                        help='evaluate the teacher on the same data, with its own checkpoint')
    args = parser.parse_args()
    if (args.checkpoint is None) != args.teacher:
        parser.error('write a checkpoint of the student, or --teacher and none')
    cfg = read_config(args)
    cfg.load_from, cfg.resume = None, False
    if args.teacher:
        if 'teacher' not in cfg.model:
            raise SystemExit(f'{args.config} has no model.teacher')
        teacher = cfg.model.teacher
        if teacher.get('checkpoint') is None:
            raise SystemExit(f'{args.config} gives its teacher no checkpoint, so no weights')
        cfg.model = teachers.read_config(teacher.config).model
        runner = Runner.from_cfg(cfg)
        teachers.load_strictly(unwrapped(runner.model), teacher.checkpoint)
    else:
        # The checkpoint is a plain student, so the teacher need not be there.
        cfg.model = cfg.model.get('student', cfg.model)
        cfg.load_from = args.checkpoint
        runner = Runner.from_cfg(cfg)
    runner.test()


if __name__ == '__main__':
    main()
