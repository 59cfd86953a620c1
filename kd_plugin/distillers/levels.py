"""Which of the tensors that two taps give go together."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Levels:
    """Pairs the levels of a student's and a teacher's tap.

    Args:
        name: Of the entry, for what is said.
        student: Path of the student's tap.
        teacher: Path of the teacher's.
        numbers: ``dict(student=[…], teacher=[…])``, the numbers of the levels that go together
            where pyramids differ; None takes all.

    Raises:
        ValueError: ``numbers`` is something else.
    """

    def __init__(self, name: str, student: str, teacher: str, numbers: Any = None) -> None:
        self.name = name
        self.paths = dict(student=student, teacher=teacher)
        self.numbers = _read_numbers(name, numbers)
        # Of all that the student's tap gives in training, what the teacher has a counterpart of.
        self.chosen: list[int] | None = None
        self.given = 0

    def choose(self, calls: list[list[Tensor]], usual: list[Tensor], teacher: int) -> None:
        """Find, in what the student's tap gives in training, the counterparts of the teacher's.

        Args:
            calls: What each call of the student's tap gave in training.
            usual: What it gives in evaluation, in one call.
            teacher: Levels of the teacher.

        Raises:
            ValueError: They cannot be told apart.
        """
        given = [tensor for tensors in calls for tensor in tensors]
        self.given = len(given)
        if self.numbers:
            teacher = len(calls[0])
        if len(given) == teacher or len(usual) != teacher:
            return
        if len(calls[0]) == teacher:  # called again, to hand its prediction to the next head
            self.chosen = list(range(teacher))
            return
        # More maps in training than in evaluation: those of the same shape are the same.
        alike = [[i for i, tensor in enumerate(given) if tensor.shape == level.shape]
                 for level in usual]  # fmt: skip
        if any(len(found) != 1 for found in alike):
            raise ValueError(
                f"{self._found()} gives {shapes(given)} in "
                f'training and {shapes(usual)} in evaluation, and which are the same is not '
                'clear; tap a module further in, which gives one map'
            )
        self.chosen = [index for (index,) in alike]

    def _found(self) -> str:
        return f"distill entry '{self.name}': student '{self.paths['student']}'"

    def pick(self, calls: list[list[Tensor]]) -> list[Tensor]:
        """Of what the student's tap gave, the counterparts of the teacher's.

        Raises:
            ValueError: Another number of tensors than when the model was built.
        """
        given = [tensor for tensors in calls for tensor in tensors]
        if self.given and len(given) != self.given:
            raise ValueError(
                f'{self._found()} gives {len(given)} '
                f'tensors in this iteration and gave {self.given} when the model was built'
            )
        given = given if self.chosen is None else [given[index] for index in self.chosen]
        return self.select('student', given)

    def select(self, side: str, maps: list[Tensor]) -> list[Tensor]:
        """The levels of a pyramid that are compared.

        Args:
            side: ``'student'`` or ``'teacher'``.
            maps: Of all levels.

        Raises:
            ValueError: There is no such level.
        """
        if self.numbers is None:
            return maps
        missing = [level for level in self.numbers[side] if level >= len(maps)]
        if missing:
            raise ValueError(
                f"distill entry '{self.name}': {side} '{self.paths[side]}' gives {len(maps)} "
                f'levels, and levels.{side} names {missing}; write numbers from 0'
            )
        return [maps[level] for level in self.numbers[side]]


def _read_numbers(name: str, levels: Any) -> dict[str, list[int]] | None:
    """The option ``levels``, checked.

    Raises:
        ValueError: It is something else than two lists of as many numbers.
    """
    if levels is None:
        return None
    fits = isinstance(levels, dict) and set(levels) == {'student', 'teacher'} and all(
        isinstance(numbers, (list, tuple)) and all(type(n) is int and n >= 0 for n in numbers)
        for numbers in levels.values())
    if not fits or len(levels['student']) != len(levels['teacher']) or not levels['student']:
        raise ValueError(
            f"distill entry '{name}': levels={levels!r}; write as many numbers for both, such as "
            'dict(student=[0, 1], teacher=[1, 2])'
        )
    return {side: list(numbers) for side, numbers in levels.items()}


def shapes(tensors: list[Tensor]) -> str:
    return ' + '.join(str(list(tensor.shape)) for tensor in tensors)


def advice(student: list[Tensor], teacher: list[Tensor], classes: dict[str, Any]) -> str:
    """What to write where two taps give other shapes.

    Args:
        student: One tensor a level.
        teacher: As many.
        classes: Class counts of student and teacher near the taps, None where unknown.
    """
    own, theirs = classes['student'], classes['teacher']
    if own and theirs and own != theirs:
        return (
            f'The student predicts {own} classes and the teacher {theirs}: their logits mean '
            'different things; name the classes of both, classes=dict(student=[…], '
            'teacher=[…]), or take a teacher trained on the classes of the student'
        )
    if any(tensor.ndim != 4 for tensor in (*student, *teacher)):
        return 'These cannot be aligned; tap modules whose outputs have one shape'
    if all(s.shape[1] == t.shape[1] for s, t in zip(student, teacher, strict=True)):
        return "The sizes differ: write aligner='resize'"
    return "The channels differ: write aligner='conv1x1'"
