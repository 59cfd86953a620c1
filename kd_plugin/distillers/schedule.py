"""How much a loss weighs at an iteration."""

from __future__ import annotations

from bisect import bisect_right

from kd_plugin.checking import check_count, check_number


class Schedule:
    """A factor of a loss over the iterations: straight lines between points, constant outside.

    ``[(0, 0), (500, 1)]`` warms up, ``[(0, 1), (90000, 0)]`` decays, ``[(8000, 1), (8000, 0)]``
    stops. Where it is 0 the teacher does not run for the entry.

    Args:
        points: (iteration, factor) pairs, iterations ascending, both >= 0.
        every: The loss counts in each so-many-th iteration; in the others it is 0.

    Raises:
        ValueError: Anything else.

    Example:
        >>> schedule = Schedule([(0, 1)], every=2)
        >>> [schedule(iteration) for iteration in range(4)]
        [1, 0.0, 1, 0.0]
    """

    def __init__(self, points: list[tuple[int, float]], every: int = 1) -> None:
        self.every = check_count('every', every)
        try:
            iterations, self.factors = zip(*points, strict=True)
            fits = list(iterations) == sorted(iterations)
            for number in (*iterations, *self.factors):
                check_number('', number)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(
                f'schedule={points!r}; write (iteration, factor) pairs, iterations ascending and '
                'neither negative, such as [(0, 0), (500, 1)]'
            )
        self.iterations = iterations

    def __call__(self, iteration: int) -> float:
        """The factor at an iteration."""
        return 0.0 if iteration % self.every else self.planned(iteration)

    def planned(self, iteration: int) -> float:
        """The factor on the line between its points, also where an iteration is left out."""
        after = bisect_right(self.iterations, iteration)
        if after == 0:
            return self.factors[0]
        if after == len(self.iterations):
            return self.factors[-1]
        (start, end), (a, b) = (
            values[after - 1 : after + 1] for values in (self.iterations, self.factors))
        return a + (b - a) * (iteration - start) / (end - start)
