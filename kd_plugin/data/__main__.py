"""Write DigitScenes: ``python -m kd_plugin.data [ROOT] [--train N] [--val N] ...``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from .digit_scenes import SPLITS, Settings, ensure


def main(argv: Sequence[str] | None = None) -> None:
    """Make sure of the data and print one line about them; exit with 2 on bad arguments."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog='python -m kd_plugin.data', description='Write the DigitScenes data set.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('root', nargs='?', default='data/digit_scenes', metavar='ROOT',
                        help='folder to write')
    for name, text in (('train', 'training scenes'), ('val', 'validation scenes'),
                       ('size', 'side of a scene in pixels'), ('seed', 'random seed')):
        parser.add_argument(f'--{name}', type=int, default=getattr(defaults, name), metavar='N',
                            help=text)
    for name, text in (('digits', 'digits in a scene'), ('scale', 'side of a digit in pixels')):
        parser.add_argument(f'--{name}', type=int, nargs=2, default=getattr(defaults, name),
                            metavar=('MIN', 'MAX'), help=text)
    options = vars(parser.parse_args(argv))
    root = options.pop('root')
    start = time.perf_counter()
    try:
        settings = Settings(**options)
        path = ensure(root, settings)
    except ValueError as error:
        parser.error(str(error))
    seconds = time.perf_counter() - start
    objects = sum(
        len(json.loads((path / f'annotations/{split}.json').read_text('utf-8'))['annotations'])
        for split in SPLITS)
    print(f'{settings.train} + {settings.val} scenes, {objects} objects, {seconds:.1f} s: {path}')


if __name__ == '__main__':
    main()
