"""Write the student of a distillation checkpoint alone, for plain mmdet or mmseg.

Checkpoints of this project are plain already; those of mmrazor (0.x and 1.x), MasKD and other
tools that wrap the student are understood.
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, save_checkpoint

from kd_plugin.export import student_state
from kd_plugin.teacher import build_model, load_strictly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--config', help="the student's plain config: check that all keys fit")
    args = parser.parse_args()
    if not args.checkpoint.exists():
        raise SystemExit(f'{args.checkpoint} does not exist')
    checkpoint = CheckpointLoader.load_checkpoint(str(args.checkpoint), map_location='cpu')
    try:
        state = student_state(checkpoint)
        meta = checkpoint.get('meta', {})
        classes = meta.get('dataset_meta') or {'classes': meta.get('CLASSES')}
        save_checkpoint(dict(meta=dict(dataset_meta=classes), state_dict=state), str(args.out))
        if args.config:
            cfg = Config.fromfile(args.config)
            init_default_scope(cfg.default_scope)
            load_strictly(build_model(cfg.model, cfg.default_scope), args.out)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f'{len(state)} of {len(checkpoint.get("state_dict", checkpoint))} keys: {args.out}')


if __name__ == '__main__':
    main()
