"""List what can be tapped in a model: module paths and the shapes that they give.

For a distillation config, of student and teacher. An image of noise goes through the model once.

    python tools/list_taps.py configs/det/retinanet_r50_fpn_2x_coco.py --under neck
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import nn

from kd_plugin.taps import flatten
from kd_plugin.teacher import build_model, read_config


def taps(model: nn.Module, size: tuple[int, int]) -> dict[str, list[list[int]]]:
    """Output shapes of every module that gives tensors, by path, in the order of the calls.

    Args:
        model: A detector or segmentor, in eval mode.
        size: Height and width of the image.
    """
    found: dict[str, list[list[int]]] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            try:
                shapes = [list(tensor.shape) for tensor in flatten(output, path)]
            except ValueError:
                return
            found.setdefault(path, []).extend(shapes)

        return hook

    handles = [module.register_forward_hook(record(path))
               for path, module in model.named_modules() if path]  # fmt: skip
    try:
        with torch.no_grad():
            sample = dict(img_shape=size, ori_shape=size, batch_input_shape=size,
                          pad_shape=size, scale_factor=(1.0, 1.0))  # fmt: skip
            image = torch.randn(1, 3, *size)
            if hasattr(model, 'decode_head'):
                model(image, mode='tensor')
                for head in _auxiliary(model):
                    head(model.extract_feat(image))
            else:
                from mmdet.structures import DetDataSample

                model(image, [DetDataSample(metainfo=sample)], mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
    return found


def _auxiliary(model: nn.Module) -> list[nn.Module]:
    """The auxiliary heads, which plain inference leaves out."""
    heads = getattr(model, 'auxiliary_head', None)
    return [] if heads is None else list(heads) if isinstance(heads, nn.ModuleList) else [heads]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help="a plain or a distillation config, or 'mmdet::…'")
    parser.add_argument('--size', nargs=2, type=int, default=(256, 256),
                        metavar=('HEIGHT', 'WIDTH'))
    parser.add_argument('--depth', type=int, default=3, help='levels of modules to show')
    parser.add_argument('--under', default='', help='only paths that start with this')
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('list_taps', log_level='ERROR')
    try:
        cfg = read_config(args.config)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    models = {'': cfg}
    if 'student' in cfg.model:
        models = {'student': Config(dict(model=cfg.model.student)),
                  'teacher': read_config(cfg.model.teacher.config)}  # fmt: skip
    scope = cfg.get('default_scope', 'mmdet')
    init_default_scope(scope)
    for name, config in models.items():
        model = build_model(config.model, config.get('default_scope') or scope).eval()
        print(f'{name} {type(model).__name__}'.strip())
        for path, shapes in taps(model, tuple(args.size)).items():
            if path.count('.') < args.depth and path.startswith(args.under):
                shown = ' '.join('x'.join(map(str, shape)) for shape in shapes[:6])
                more = ' …' if len(shapes) > 6 else ''
                print(f'  {path:44s} {shown}{more}')


if __name__ == '__main__':
    main()
