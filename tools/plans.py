"""The arguments that say which runs are meant, on a command line or kept in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kd_plugin.methods import read

ROOT = Path(__file__).resolve().parents[1]
CONFIGS, WORK = ROOT / 'configs', ROOT / 'work_dirs'
RESULTS = ROOT / 'docs/results'  # of the project's own configs


class PlanParser(argparse.ArgumentParser):
    """Takes arguments from the command line and from files, a plan: ``@FILE``."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, fromfile_prefix_chars='@',
                         formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return arg_line.partition('#')[0].split()

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        parsed = super().parse_args(*args, **kwargs)
        if getattr(parsed, 'results', None) is None:
            own = all(path.resolve().is_relative_to(CONFIGS) for path in parsed.configs)
            parsed.results = RESULTS if own else WORK / 'results'
        return parsed


def add_run_arguments(parser: argparse.ArgumentParser, nargs: str = '+') -> None:
    """The arguments that say which runs are meant: configs, methods, seeds, folder of results."""
    parser.add_argument('configs', nargs=nargs, type=_config, help='config files')
    parser.add_argument('--methods', nargs='+', type=method, default=[None], metavar='METHOD',
                        help='in place of the one in the configs: NAME or NAME:key=value,…')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--results', type=Path, help='folder of result files; by default '
                        'docs/results for configs of the project, work_dirs/results for others')


def _config(name: str) -> Path:
    if not Path(name).exists():
        raise argparse.ArgumentTypeError(f'no such config: {name}')
    return Path(name)


def method(text: str) -> str:
    try:
        read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def config_name(config: Path) -> str:
    """How a config is called in paths, for example ``demo/pspnet_digits``."""
    config = config.resolve()
    parent = CONFIGS if config.is_relative_to(CONFIGS) else config.parent
    return config.relative_to(parent).with_suffix('').as_posix()
