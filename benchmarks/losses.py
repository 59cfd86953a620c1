"""The losses beside their formulas run eagerly, at the sizes of a RetinaNet on one 800x1344 image.

Forward and backward; the DIST terms of the five pyramid levels on 720 channels, the feature
relations on 256. Prints how many times longer the formulas take, and the peak memory in student
tensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import extra_memory, ratio, times
from torch import Tensor

from kd_plugin.losses import DISTLoss, FeatureRelationLoss

LEVELS = (100, 168), (50, 84), (25, 42), (13, 21), (7, 11)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation along the last dimension, operation by operation (DIST+ eq. 7)."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1) + 1e-8)


def dist_formula(student: Tensor, teacher: Tensor) -> Tensor:
    """DIST+ eq. 8 and 9 on rows = pixels."""
    rows = [x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).sigmoid() for x in (student, teacher)]
    columns = [x.t() for x in rows]
    return 2 - correlation(*rows).mean() - correlation(*columns).mean()


def feature_formula(student: Tensor, teacher: Tensor) -> Tensor:
    """DIST+ eq. 15 and 16."""
    positions = [x.permute(0, 2, 3, 1) for x in (student, teacher)]
    maps = [x.mean(1).flatten(1) for x in (student, teacher)]
    return 2 - correlation(*positions).mean() - correlation(*maps).mean()


def steps(
    losses: dict[str, Callable], channels: int, device: str, images: int
) -> tuple[dict[str, Callable], int]:
    """A forward and backward pass over all levels for each loss, and the bytes of a tensor."""
    student = [torch.randn(images, channels, *size, device=device) - 3 for size in LEVELS]
    teacher = [torch.randn_like(level) - 3 for level in student]
    for level in student:
        level.requires_grad_()

    def step(loss: Callable) -> Callable:
        def run() -> None:
            sum(map(loss, student, teacher)).backward()
            for level in student:
                level.grad = None

        return run

    size = sum(level.numel() * level.element_size() for level in student)
    return {name: step(loss) for name, loss in losses.items()}, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--images', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    name = torch.cuda.get_device_name() if device == 'cuda' else f'{args.threads} CPU threads'
    print(f'{name}, torch {torch.__version__}, {args.images} image(s)')
    pairs = {
        'DIST': (720, dict(formula=dist_formula, ours=DISTLoss(activation='sigmoid'))),
        'features': (256, dict(formula=feature_formula, ours=FeatureRelationLoss())),
    }
    for title, (channels, losses) in pairs.items():
        functions, size = steps(losses, channels, device, args.images)
        found = times(functions, args.rounds)
        memory = {name: extra_memory(function) / size for name, function in functions.items()}
        print(f'{title}: formula / ours {ratio(found["formula"], found["ours"])}; '
              f'{1e3 * min(found["formula"]):.0f} ms and {1e3 * min(found["ours"]):.0f} ms; '
              f'extra memory {memory["formula"]:.1f} and {memory["ours"]:.1f} student tensors')
        if device == 'cuda':
            bandwidth(found['ours'], size, device)


def bandwidth(found: list[float], size: int, device: str) -> None:
    """Against a copy: two tensors must be read twice, once for each pass, and one written."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(times({'copy': lambda: target.copy_(source)}, 20)['copy'])
    share = 5 * size / min(found) / (2 * size / copy)
    print(f'  {share:.0%} of the bandwidth of a copy, for the five tensors that must move')


if __name__ == '__main__':
    main()
