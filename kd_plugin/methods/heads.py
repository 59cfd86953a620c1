"""What a head says of the columns of its logits."""

from __future__ import annotations

from torch import Tensor, nn

from kd_plugin.taps import find_module


def class_count(model: nn.Module, path: str, attribute: str = 'num_classes') -> int | None:
    """``num_classes`` of the closest module around a path that has one."""
    head = head_around(model, path, attribute)
    return None if head is None else head.__dict__[attribute]


def head_around(
    model: nn.Module, path: str, attribute: str = 'num_classes'
) -> nn.Module | None:
    """The closest module around a path that has a number under an attribute."""
    parts = path.split('.')
    for end in range(len(parts), 0, -1):
        module = find_module(model, '.'.join(parts[:end]))
        if isinstance(module.__dict__.get(attribute), int):
            return module
    return None


def anchors_at_a_position(model: nn.Module, path: str, logits: Tensor) -> int:
    """Anchors at a position, from the channels of [N, A·C, H, W]."""
    classes = class_count(model, path)
    return logits.shape[1] // classes if classes else 1


def check_columns(model: nn.Module, path: str, logits: list[Tensor]) -> None:
    """Refuse logits whose columns are not the classes of their head.

    Args:
        model: Student or teacher.
        path: Of the tap.
        logits: What it gave: [N, C], or [N, A·C, H, W] a level.

    Raises:
        ValueError: The number of columns fits neither the classes nor these and a background.
    """
    head = head_around(model, path)
    if head is None:
        return
    classes = head.__dict__['num_classes']
    # Binary segmentors and masks that are blind to the class have one column for all.
    single = getattr(head, 'out_channels', None) == 1 or getattr(head, 'class_agnostic', False)
    anchors = getattr(head, 'num_base_priors', None)
    anchors = anchors if isinstance(anchors, list) else [anchors or 1] * len(logits)
    for level, count in zip(logits, [*anchors, *anchors[-1:] * len(logits)], strict=False):
        if level.ndim not in (2, 4) or (single and level.shape[1] == 1):
            continue
        count = count if level.ndim == 4 else 1
        if level.shape[1] not in (classes * count, (classes + 1) * count):
            anchor = f' at each of {count} anchors' if count > 1 else ''
            raise ValueError(
                f"'{path}' gives {level.shape[1]} columns, and {type(head).__name__} has "
                f'{classes} classes, {classes + 1} with background{anchor}: some columns are no '
                'classes (boxes, objectness), and a relation of classes would mix them; tap its '
                "classification layer or, where it has none of its own, features ('neck')"
            )
