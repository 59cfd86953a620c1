"""Write the student of a distillation checkpoint alone, for plain mmdet or mmseg.

Checkpoints of this project are plain already; those of mmrazor (0.x and 1.x), MasKD and other
tools that wrap the student are understood. A file of a model without a teacher comes out as its
weights alone.

    python tools/export_student.py work_dirs/pair/iter_1200.pth student.pth --config STUDENT.py
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint

from kd_plugin.atomic import atomic_write
from kd_plugin.export import plain, state_of, student_state
from kd_plugin.teacher import build_model, load_strictly
from kd_plugin.teacher.files import open_checkpoint


def read(path: Path, trust: bool) -> Any:
    """What a checkpoint holds; with ``trust``, also what has to be run for it.

    Raises:
        ValueError: It cannot be opened, with what to do.
    """
    if not trust:
        return open_checkpoint(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=False)
    except Exception as error:  # whatever the code in the file raises
        raise ValueError(f'{path} cannot be opened: {type(error).__name__}: {error}') from error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--config', help="the student's plain config: check that all keys fit")
    parser.add_argument('--trust', action='store_true',
                        help='run whatever code is pickled in the file, for one that holds more '
                        'than weights; only where you trust its origin')
    args = parser.parse_args()
    try:
        checkpoint = read(args.checkpoint, args.trust)
        state = student_state(checkpoint)
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        meta = meta if isinstance(meta, dict) else {}
        classes = plain(meta.get('dataset_meta') or {'classes': meta.get('CLASSES')})
        with atomic_write(args.out) as partial:
            save_checkpoint(dict(meta=dict(dataset_meta=classes), state_dict=state), partial)
        if args.config:
            cfg = Config.fromfile(args.config)
            init_default_scope(cfg.default_scope)
            load_strictly(build_model(cfg.model, cfg.default_scope), args.out)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f'{len(state)} of {len(state_of(checkpoint))} keys: {args.out}')


if __name__ == '__main__':
    main()
