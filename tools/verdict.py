"""What paired results of several seeds allow to say: whether a method pays.

Pure arithmetic and sentences. A gain is a difference of the same seed's two results; its interval
is Student's, at 95 % where it is looked at once and wider where it is looked at again and again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, stdev

import numpy as np
from scipy.stats import t as student_t

MOST_SEEDS = 100  # more are not counted out
CONFIDENCE = 0.95
# Points that a student's longer schedule may still gain for it to count as done, and points that
# a teacher has to stand above the student for a verdict to mean much.
DONE, AHEAD = 1.0, 5.0


@dataclass(frozen=True)
class Gain:
    """A mean difference over the seeds of both sides, and its interval.

    ``low`` and ``high`` are infinite for a single seed.
    """

    mean: float
    low: float
    high: float
    seeds: int
    scatter: float  # standard deviation of the differences; NaN for a single seed
    confidence: float = CONFIDENCE

    def __str__(self) -> str:
        if self.seeds == 1:
            return f'{self.mean:+.1f} (one seed)'
        return f'{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})'


def gain(values: Mapping[int, float], base: Mapping[int, float],
         confidence: float = CONFIDENCE) -> Gain | None:  # fmt: skip
    """Of values over a base, both by seed; None without a seed of both.

    Args:
        values: Scores by seed.
        base: Scores by seed.
        confidence: Of the interval, see :func:`confidence_of_a_look`.

    Example:
        >>> str(gain({0: 41.0, 1: 42.0, 2: 43.5}, {0: 40.0, 1: 40.5, 2: 42.0}))
        '+1.3 (+0.6 to +2.1)'
    """
    pairs = [values[seed] - base[seed] for seed in values if seed in base]
    if not pairs:
        return None
    if len(pairs) == 1:
        return Gain(pairs[0], -math.inf, math.inf, 1, math.nan, confidence)
    half = _half(stdev(pairs), len(pairs), confidence)
    return Gain(mean(pairs), mean(pairs) - half, mean(pairs) + half, len(pairs), stdev(pairs),
                confidence)  # fmt: skip


def _half(scatter: float, seeds: int, confidence: float) -> float:
    """Half the width of the interval."""
    return float(student_t.ppf((1 + confidence) / 2, seeds - 1)) * scatter / math.sqrt(seeds)


@cache
def confidence_of_a_look(first: int, most: int) -> float:
    """How wide intervals must be if seeds are added until one of them leaves out 0.

    At 95 % each, looking after 3 seeds, after 4, … after 8 decides on a gain that is none in one
    case of seven. The value here keeps it at one of twenty over all looks together (Pocock,
    Biometrika 1977, with Student's t; found by drawing normal gains).

    Args:
        first: Seeds at the first look; a single one is no look.
        most: Seeds at the last.

    Returns:
        Confidence of each look's interval; 0.95 for a single look.

    Example:
        >>> confidence_of_a_look(3, 3), round(confidence_of_a_look(3, 8), 2)
        (0.95, 0.99)
    """
    first = max(first, 2)
    if most <= first:
        return CONFIDENCE
    seeds = np.arange(1, most + 1)[first - 1:]
    draws = np.random.default_rng(0).standard_normal((20_000, most))
    means = draws.cumsum(1)[:, first - 1:] / seeds
    squares = (draws ** 2).cumsum(1)[:, first - 1:]
    errors = np.sqrt((squares / seeds - means ** 2) / (seeds - 1))
    chances = 2 * student_t.sf(np.abs(means) / errors, seeds - 1)
    return 1 - float(np.quantile(chances.min(1), 1 - CONFIDENCE))


def seeds_needed(found: Gain, worth: float = 0.0) -> int | None:
    """How many seeds in all would decide, if mean and scatter stay as they were seen.

    Args:
        found: The gain so far.
        worth: Points from which on a method pays.

    Returns:
        None where not even ``MOST_SEEDS`` would, or a single seed shows no scatter.
    """
    if math.isnan(found.scatter):
        return None
    distance = abs(found.mean - worth)
    for seeds in range(found.seeds + 1, MOST_SEEDS + 1):
        if _half(found.scatter, seeds, found.confidence) < distance:
            return seeds
    return None


def decided(found: Gain | None, worth: float = 0.0) -> bool:
    """Whether the interval lies on one side of what is worth it."""
    return found is not None and not found.low <= worth <= found.high


def verdict(method: str, over_long: Gain | None, over_alone: Gain | None,
            worth: float = 0.0) -> str:  # fmt: skip
    """One line that begins with the method's name.

    Args:
        method: Its name.
        over_long: Gain over the student trained for as long.
        over_alone: Gain over the student on the method's own schedule.
        worth: Points over the former from which on the method pays.
    """
    if over_long is None or over_alone is None:
        return f'{method} cannot tell: no seed has both results yet'
    numbers = f'{over_long} over the student for as long, {over_alone} in equal steps'
    if not decided(over_long, worth):
        needed = seeds_needed(over_long, worth)
        if over_long.seeds == 1:
            more = 'one seed shows no scatter; give more --seeds'
        elif needed is None:
            more = f'more than {MOST_SEEDS} seeds would have to tell'
        else:
            more = f'about {needed - over_long.seeds} more seeds would, by the scatter seen'
        return f'{method} cannot tell: {numbers}; {more}'
    return f'{method} {"pays" if over_long.low > worth else "does not pay"}: {numbers}'


def caveats(teacher: float | None, alone: Sequence[float], long: Sequence[float]) -> list[str]:
    """What the verdicts mean: whether the student was done, how far ahead the teacher stands.

    Args:
        teacher: Its score, None where unknown.
        alone: The student's scores, in points of a hundred.
        long: Those of the student trained for as long.
    """
    if not alone or not long:
        return []
    gained = mean(long) - mean(alone)
    done = gained < DONE
    lines = [f'The student was {"done" if done else "not done"}: its longer schedule gained '
             f'{gained:+.1f}' + ('' if done else f', and a student that is done gains less than '
             f'{DONE:g}; lengthen the schedule of both before believing a verdict')]  # fmt: skip
    if teacher is not None:
        ahead = teacher - mean(long)
        lines.append(
            f'The teacher stands {ahead:+.1f} above the student for as long'
            + ('' if ahead >= AHEAD else f'; under {AHEAD:g} there is little to teach: take a '
               'stronger one before believing a verdict'))  # fmt: skip
    return lines
