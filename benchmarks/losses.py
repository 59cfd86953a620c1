"""The losses beside their formulas run eagerly, at the sizes of a RetinaNet on one 800x1344 image.

Forward and backward; the DIST terms of the five pyramid levels on 720 channels, the feature
relations on 256. Prints how many times longer the formulas take, and the peak memory in student
tensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import extra_memory, quotients, record, times
from torch import Tensor

from kd_plugin.losses import DISTLoss, FeatureRelationLoss

LEVELS = (100, 168), (50, 84), (25, 42), (13, 21), (7, 11)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation along the last dimension, operation by operation (DIST+ eq. 7)."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1) + 1e-8)


def dist_formula(student: Tensor, teacher: Tensor) -> Tensor:
    """DIST+ eq. 8 and 9 on rows = pixels."""
    rows = [x.float().permute(0, 2, 3, 1).reshape(-1, x.shape[1]).sigmoid()
            for x in (student, teacher)]
    columns = [x.t() for x in rows]
    return 2 - correlation(*rows).mean() - correlation(*columns).mean()


def feature_formula(student: Tensor, teacher: Tensor) -> Tensor:
    """DIST+ eq. 15 and 16."""
    features = student.float(), teacher.float()
    positions = [x.permute(0, 2, 3, 1) for x in features]
    maps = [x.mean(1).flatten(1) for x in features]
    return 2 - correlation(*positions).mean() - correlation(*maps).mean()


def steps(
    losses: dict[str, Callable], channels: int, device: str, images: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[dict[str, Callable], int]:
    """A forward and backward pass over all levels for each loss, and the bytes of a tensor."""
    student = [(torch.randn(images, channels, *size, device=device) - 3).to(dtype)
               for size in LEVELS]
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
    parser.add_argument('--dtype', choices=['float32', 'float16', 'bfloat16'], default='float32',
                        help='of the logits and features; the losses compute in float32')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    name = torch.cuda.get_device_name() if device == 'cuda' else f'{args.threads} CPU threads'
    print(f'{name}, torch {torch.__version__}, {args.images} image(s), '
          f'{args.dtype}')
    pairs = {
        'DIST': (720, dict(formula=dist_formula, ours=DISTLoss(activation='sigmoid'))),
        'features': (256, dict(formula=feature_formula, ours=FeatureRelationLoss())),
    }
    for title, (channels, losses) in pairs.items():
        functions, size = steps(losses, channels, device, args.images, getattr(torch, args.dtype))
        found = times(functions, args.rounds)
        memory = {name: extra_memory(function) / size for name, function in functions.items()}
        medians, fastest = quotients(found['formula'], found['ours'])
        slow, fast = (1e3 * min(found[name]) for name in ('formula', 'ours'))
        share = bandwidth(found['ours'], size, device) if device == 'cuda' else None
        record(f'{title}: formula / ours {medians:.2f} (fastest calls: {fastest:.2f}); '
               f'{slow:.3g} ms and {fast:.3g} ms; extra memory {memory["formula"]:.1f} and '
               f'{memory["ours"]:.1f} student tensors'
               + (f'; {share:.0%} of the bandwidth of a copy, for the five tensors that must move'
                  if share else ''),
               benchmark='losses', loss=title, images=args.images, dtype=args.dtype,
               ratio=medians, fastest=fastest, milliseconds=fast, memory=memory['ours'],
               formula_memory=memory['formula'], bandwidth=share)  # fmt: skip


def bandwidth(found: list[float], size: int, device: str) -> float:
    """Share of a copy's: two tensors must be read twice, once for each pass, and one written."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = min(times({'copy': lambda: target.copy_(source)}, 20)['copy'])
    return 5 * size / min(found) / (2 * size / copy)


if __name__ == '__main__':
    main()
