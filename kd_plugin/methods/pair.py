"""What two models have in common to be distilled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmengine.logging import print_log
from torch import nn

from .survey import LogitTap, Survey

# Columns of a row that a relation between classes needs: two correlate with +1 or -1 always.
FEWEST_RELATED = 3


@dataclass
class Plan:
    """What a method does to a pair.

    Attributes:
        entries: As a config's ``distill`` list has them.
        acclimation: As a config has it, None for a fixed teacher.
        notes: What was left out, and why.
        views: As a config has them, None for the batch as it is.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    acclimation: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    views: dict[str, Any] | None = None


class Pair:
    """A student and a teacher, and where they can be compared.

    Args:
        student: The student's model.
        teacher: The teacher's.
        scope: ``'mmdet'`` or ``'mmseg'``.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, scope: str) -> None:
        self.student, self.teacher = Survey(student, scope), Survey(teacher, scope)
        self.names = type(student).__name__, type(teacher).__name__
        self.notes: list[str] = []

    def logits(self, name: str, loss: dict, **options: Any) -> list[dict[str, Any]]:
        """Entries that compare class logits, one a pair of classification layers.

        Args:
            name: Of the first entry; further ones get a number.
            loss: Dict of a loss on logits; activation and weight are filled in.
            options: Further options of the entries.
        """
        entries = []
        for i, (own, theirs) in enumerate(self._logit_pairs()):
            filled = dict(loss)
            if own.activation != theirs.activation:
                print_log(
                    f"'{own.path}' of the student is trained with a {own.activation} and "
                    f"'{theirs.path}' of the teacher with a {theirs.activation}; both are read "
                    f"with the student's. If that is not meant, write activation="
                    f"'{theirs.activation}' in the loss of this entry, or a method on features",
                    logger='current', level=logging.WARNING)  # fmt: skip
            if own.activation != 'softmax':
                filled['activation'] = own.activation
            # A segmentor's further heads weigh as their task losses do.
            if own.weight != 1 and not own.head.startswith(('bbox_head', 'roi_head')):
                filled['loss_weight'] = own.weight * loss.get('loss_weight', 1)
            entry = dict(name=f'{name}_{i}' if i else name, student=own.path, teacher=theirs.path,
                         loss=filled, **options)  # fmt: skip
            levels = _common_levels(own.strides, theirs.strides)
            if levels:
                entry['levels'] = levels
            elif own.strides != theirs.strides:
                entry['aligner'] = 'resize'
            entries.append(entry)
        return entries

    def first(self) -> LogitTap | None:
        """The student's classification layer that is compared first."""
        pair = next(self._logit_pairs(), None)
        return None if pair is None else pair[0]

    def columns(self) -> tuple[int, int | None]:
        """Columns and classes of the logits that are compared first; 0 and None without any."""
        tap = self.first()
        return (0, None) if tap is None else (tap.columns, tap.classes)

    def features(
        self, loss: dict, name: str = 'features', aligner: str | None = 'conv1x1',
        part: slice = slice(None),
    ) -> list[dict[str, Any]]:  # fmt: skip
        """One entry that compares features: the necks' or the backbones' last common stage.

        Args:
            loss: Dict of a loss on maps.
            name: Of the entry.
            aligner: None for one only where channels or sizes differ.
            part: Of each pyramid's levels.
        """
        for paths in (('neck', 'neck'), self._last_stages()):
            own, theirs = (side.features.get(path) for side, path in zip(
                (self.student, self.teacher), paths, strict=True))  # fmt: skip
            if not own or not theirs:
                continue
            numbers = [[number for number, stride in enumerate(side) if stride][part]
                       for side in (own, theirs)]  # fmt: skip
            common = _common_levels(*([side[i] for i in chosen] for side, chosen in zip(
                (own, theirs), numbers, strict=True)))  # fmt: skip
            if common:
                numbers = [[chosen[i] for i in common[side]] for side, chosen in zip(
                    ('student', 'teacher'), numbers, strict=True)]  # fmt: skip
            if len(numbers[0]) != len(numbers[1]):
                continue
            entry: dict[str, Any] = dict(name=name, student=paths[0], teacher=paths[1])
            kind = aligner or self._needed_aligner(paths, numbers)
            if kind:
                entry['aligner'] = kind
            entry['loss'] = dict(loss)
            if numbers != [list(range(len(side))) for side in (own, theirs)]:
                entry['levels'] = dict(student=numbers[0], teacher=numbers[1])
            return [entry]
        self.note(f'features: the maps of {self.names[0]} {self.student.features} and of '
                  f'{self.names[1]} {self.teacher.features} (strides) have no level in common')
        return []

    def _needed_aligner(
        self, paths: tuple[str, str], numbers: list[list[int]]
    ) -> str | None:
        """What brings the student's maps to the teacher's shapes; None where they have them."""
        for kind, attribute in (('conv1x1', 'channels'), ('resize', 'features')):
            own, theirs = (
                [getattr(side, attribute)[path][i] for i in chosen] for side, path, chosen in zip(
                    (self.student, self.teacher), paths, numbers, strict=True))
            if own != theirs:
                return kind
        return None

    def note(self, text: str) -> None:
        """Take down what was left out, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _last_stages(self) -> tuple[str, str]:
        """Where the last map of each backbone comes from."""
        stages = [[path for path in side.features if path.startswith('backbone.')]
                  for side in (self.student, self.teacher)]  # fmt: skip
        whole = all(stages) and all(
            side.features[path[0]] for side, path in zip(
                (self.student, self.teacher), stages, strict=True))
        return (stages[0][0], stages[1][0]) if whole else ('backbone', 'backbone')

    def _logit_pairs(self) -> Iterator[tuple[LogitTap, LogitTap]]:
        """Classification layers that speak of the same boxes or pixels."""
        own, theirs = self.student.logits, self.teacher.logits
        for name, side in zip(self.names, (self.student, self.teacher), strict=True):
            if not side.logits:
                self.note(f'logits: of {name}, {side.reason}')
        if not own or not theirs:
            return
        if own[0].head.startswith('roi_head') != theirs[0].head.startswith('roi_head'):
            self.note(f"logits: '{own[0].path}' and '{theirs[0].path}' are not both in a RoI "
                      'head, so they do not speak of the same boxes')  # fmt: skip
            return
        # A cascade of as many stages goes stage by stage, any other from its first.
        cascades = [len([tap for tap in taps if tap.head.startswith('roi_head')])
                    for taps in (own, theirs)]  # fmt: skip
        if cascades[0] != cascades[1]:
            own, theirs = own[:1], theirs[:1]
        elif not cascades[0]:
            own, theirs = _by_kind(own, theirs)
        for tap in self.student.logits:
            if tap not in own[:len(theirs)]:
                self.note(f"logits: to '{tap.path}' of the student no head of the teacher, "
                          f'{self.names[1]}, corresponds')  # fmt: skip
        for one, other in zip(own, theirs, strict=False):
            if one.columns != other.columns and one.classes == other.classes:
                self.note(f"logits: '{one.path}' gives {one.columns} columns and '{other.path}' "
                          f'{other.columns}, of other anchors')  # fmt: skip
                continue
            yield one, other


def _by_kind(
    own: list[LogitTap], theirs: list[LogitTap]
) -> tuple[list[LogitTap], list[LogitTap]]:
    """Main heads with main heads, the last of a cascade first; auxiliary heads in their order."""
    pairs = []
    for auxiliary in (False, True):
        sides = [[tap for tap in taps if tap.head.startswith('auxiliary') == auxiliary]
                 for taps in (own, theirs)]  # fmt: skip
        if not auxiliary and len(sides[0]) != len(sides[1]):
            sides = [side[-1:] for side in sides]
        pairs += list(zip(*sides, strict=False))
    return [one for one, _ in pairs], [other for _, other in pairs]


def _common_levels(own: list[int], theirs: list[int]) -> dict[str, list[int]] | None:
    """Which levels of two pyramids have the same strides; None where all of both go together."""
    common = [stride for stride in own if stride in theirs]
    if own == theirs or not common or len(set(own)) < len(own) or len(set(theirs)) < len(theirs):
        return None
    return dict(student=[own.index(s) for s in common], teacher=[theirs.index(s) for s in common])


def describe(side: Survey) -> str:
    """What a model offers, in a line."""
    taps = ', '.join(f"'{tap.path}'" for tap in side.logits) or 'none'
    return f'logits {taps}; features {side.features}'
