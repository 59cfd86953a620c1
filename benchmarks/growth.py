"""How time and memory of the distillation grow with batch, image, classes and pyramid levels.

The work that distillation adds to a step beside the teacher: DIST on a RetinaNet's logits and
feature relations behind 1x1 aligners, forward and backward. One factor grows at a time; the
exponent of its growth is the slope in the log-log figure that is drawn.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import matplotlib
import numpy as np
import torch
from measure import extra_memory, times

from kd_plugin.aligners import Conv1x1
from kd_plugin.losses import DISTLoss, FeatureRelationLoss

matplotlib.use('Agg')
import matplotlib.pyplot as plt

BASE = dict(batch=1, image=512, classes=80, levels=5)
FACTORS = dict(batch=[1, 2, 4, 8], image=[256, 512, 768, 1024], classes=[80, 160, 365, 1203],
               levels=[1, 2, 3, 5])  # fmt: skip
ANCHORS, WIDTH = 9, 256


def work(batch: int, image: int, classes: int, levels: int) -> Callable[[], None]:
    """Both losses of all levels, forward and backward."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    sizes = [math.ceil(image / 8 / 2**level) for level in range(levels)]

    def maps(channels: int) -> list[torch.Tensor]:
        return [torch.randn(batch, channels, side, side, device=device) for side in sizes]

    logits, features = maps(ANCHORS * classes), maps(WIDTH)
    taught_logits, taught_features = maps(ANCHORS * classes), maps(WIDTH)
    for tensor in (*logits, *features):
        tensor.requires_grad_()
    aligners = [Conv1x1(WIDTH, WIDTH).to(device) for _ in sizes]
    dist, relation = DISTLoss(activation='sigmoid'), FeatureRelationLoss()

    def step() -> None:
        losses = list(map(dist, logits, taught_logits))
        for aligner, student, teacher in zip(aligners, features, taught_features, strict=True):
            losses.append(relation(aligner(student, teacher.shape[-2:]), teacher))
        sum(losses).backward()
        for tensor in (*logits, *features):
            tensor.grad = None

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--figure', help='where to write the figure, for example growth.png')
    args = parser.parse_args()
    figure, axes = plt.subplots(1, len(FACTORS), figsize=(3.2 * len(FACTORS), 3))
    for (factor, values), axis in zip(FACTORS.items(), axes, strict=True):
        # A step first, then its memory: both are there for one size at a time.
        found = []
        for value in values:
            step = work(**{**BASE, factor: value})
            seconds = min(times({'step': step}, args.rounds)['step'])
            found.append((1e3 * seconds, extra_memory(step) / 2**20))
        slopes = np.polyfit(np.log(values), np.log(np.maximum(found, 1e-3)), 1)[0]
        for name, unit, column, slope in zip(
                ('time', 'memory'), ('ms', 'MB'), zip(*found, strict=True), slopes, strict=True):
            shown = ', '.join(f'{value}: {number:.0f} {unit}'
                              for value, number in zip(values, column, strict=True))
            print(f'{factor}, {name}: exponent {slope:.2f} ({shown})', flush=True)
            axis.loglog(values, column, 'o-', label=f'{name}, {unit}: exponent {slope:.2f}')
        axis.set(xlabel=factor, xticks=values, xticklabels=values)
        axis.minorticks_off()
        axis.legend(fontsize=7)
    figure.tight_layout()
    if args.figure:
        figure.savefig(args.figure, dpi=110)


if __name__ == '__main__':
    main()
