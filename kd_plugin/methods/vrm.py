"""VRM, and the row beside it that has its views and no teacher."""

from __future__ import annotations

from typing import Any

from .pair import Pair, Plan
from .papers import METHODS

# Standardised, a row of two columns is one of two points, one of three a point on a circle: of a
# box that holds nothing the direction of its noise is left, which the student is then to follow.
FEWEST_STANDARDISED = 4


@METHODS.register_module('vrm')
def vrm(
    pair: Pair, operations: int = 2, magnitude: float = 10, task_weight: float = 1.0, **loss: Any
) -> Plan:
    """Relations between a real and a virtual view; one row an anchor.

    Args:
        pair: The models.
        operations: Of each image's virtual view.
        magnitude: Of these operations.
        task_weight: Of the student's own losses on the virtual view.
        loss: Options of :class:`~kd_plugin.losses.VRMLoss`.
    """
    columns, classes = pair.columns()
    options = dict(type='VRMLoss', **loss)
    if classes and columns > classes + 1:
        options.setdefault('num_classes', classes)
        columns = classes
    if 0 < columns < FEWEST_STANDARDISED and 'standardise' not in options:
        options['standardise'] = False
        pair.note(f'the z-score: of {columns} columns it leaves little but noise, and it takes '
                  f'{FEWEST_STANDARDISED}')  # fmt: skip
    if columns == 1:
        options.setdefault('inter_sample_weight', 0.0)
        pair.note('the inter-sample relation: edges of one column are +1 or -1')
    entries = pair.logits('vrm', options)
    relates = entries and options.get('cross_view', True)
    views = _views(operations, magnitude, task_weight) if relates else None
    return Plan(entries, views=views, notes=pair.notes)


@METHODS.register_module('both-views')
def both_views(
    pair: Pair, operations: int = 2, magnitude: float = 10, task_weight: float = 1.0
) -> Plan:
    """The control of VRM: the student learns its task on both views, and the teacher says nothing.

    Arguments are those of :func:`vrm`.
    """
    return Plan(views=_views(operations, magnitude, task_weight))


def _views(operations: int, magnitude: float, task_weight: float) -> dict[str, Any]:
    return dict(operations=operations, magnitude=magnitude, task_weight=task_weight)
