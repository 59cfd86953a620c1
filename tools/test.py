"""Evaluate a student, or with --teacher the teacher of a distillation config, on its test data.

    python tools/test.py PAIR.py work_dirs/pair/student_best.pth
    python tools/test.py PAIR.py --teacher
"""

from command_line import common_parser, read_config
from mmengine.runner import Runner
from torch import nn

from kd_plugin import teacher as teachers
from kd_plugin.analysis.translate import translate
from kd_plugin.distillers.class_map import read_class_names
from kd_plugin.runner.unwrapped import unwrapped


def speak_as_student(model: nn.Module, names: dict[str, list[str]]) -> None:
    """Let a teacher's predictions be counted in the student's classes, by name."""
    test_step = model.test_step
    model.test_step = lambda data: [translate(sample, names) for sample in test_step(data)]


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
        classes = cfg.model.get('classes')
        cfg.model = teachers.read_config(teacher.config).model
        runner = Runner.from_cfg(cfg)
        teachers.load_strictly(unwrapped(runner.model), teacher.checkpoint)
        names = read_class_names(classes, cfg.default_scope)
        if names and names['student'] != names['teacher']:
            speak_as_student(unwrapped(runner.model), names)
    else:
        # The checkpoint is a plain student, so the teacher need not be there.
        cfg.model = cfg.model.get('student', cfg.model)
        cfg.load_from = args.checkpoint
        runner = Runner.from_cfg(cfg)
    runner.test()


if __name__ == '__main__':
    main()
