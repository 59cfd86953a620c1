"""What paired results allow to say."""

import math

import numpy as np
import pytest
from scipy import stats
from verdict import (
    Gain,
    caveats,
    confidence_of_a_look,
    decided,
    gain,
    seeds_needed,
    verdict,
)


def test_a_gain_is_scipys_paired_interval():
    draw = np.random.default_rng(0)
    own, base = draw.normal(42, 1, 6), draw.normal(40, 1, 6)
    found = gain(dict(enumerate(own)), dict(enumerate(base)))
    test = stats.ttest_rel(own, base)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert decided(found) == (test.pvalue < 0.05)


def decided_by_luck(first, most, confidence, trials=600):
    """How often a gain that is none is decided at one of the looks."""
    draws = np.random.default_rng(7).normal(0, 1, (trials, most))
    none = dict.fromkeys(range(most), 0.0)
    return np.mean([
        any(decided(gain(dict(enumerate(draw[:seeds])), none, confidence))
            for seeds in range(first, most + 1)) for draw in draws])


def test_looking_at_each_new_seed_does_not_decide_by_luck():
    assert decided_by_luck(3, 8, 0.95) > 0.1
    assert decided_by_luck(3, 8, confidence_of_a_look(3, 8)) == pytest.approx(0.05, abs=0.02)
    assert confidence_of_a_look(3, 3) == confidence_of_a_look(5, 0) == 0.95
    assert confidence_of_a_look(1, 4) == confidence_of_a_look(2, 4)  # one seed decides nothing


def test_more_looks_ask_for_more_seeds():
    values, none = {0: 1.0, 1: 3.0, 2: -1.0}, dict.fromkeys(range(3), 0.0)
    assert seeds_needed(gain(values, none, 0.99)) > seeds_needed(gain(values, none))


def test_only_seeds_of_both_count():
    found = gain({0: 5.0, 1: 6.0, 7: 100.0}, {1: 5.0, 0: 3.0, 9: 0.0})
    assert (found.seeds, found.mean) == (2, 1.5)
    assert gain({0: 1.0}, {1: 1.0}) is None


def test_as_many_seeds_as_are_needed_would_decide():
    found = gain({0: 1.0, 1: 3.0, 2: -1.0}, dict.fromkeys(range(3), 0.0))
    needed = seeds_needed(found)
    half = [stats.t.ppf(0.975, n - 1) * found.scatter / math.sqrt(n) for n in (needed - 1, needed)]
    assert half[1] < found.mean <= half[0]


def test_where_nothing_would_it_is_said():
    assert seeds_needed(Gain(0.0, -1.0, 1.0, 5, 1.0)) is None
    assert seeds_needed(gain({0: 1.0}, {0: 0.0})) is None


@pytest.mark.parametrize(('low', 'high', 'worth', 'says'), [
    (0.5, 2.0, 0.0, 'kd pays: '), (-2.0, -0.1, 0.0, 'kd does not pay: '),
    (-0.5, 2.0, 0.0, 'kd cannot tell: '), (0.5, 2.0, 1.0, 'kd cannot tell: '),
    (0.1, 0.4, 1.0, 'kd does not pay: '),
])  # fmt: skip
def test_a_line_begins_with_the_name_and_what_is_decided(low, high, worth, says):
    found = Gain((low + high) / 2, low, high, 3, 0.5)
    line = verdict('kd', found, found, worth)
    assert line.startswith(says) and '\n' not in line
    assert ('more seeds' in line) == ('cannot' in says)


def test_one_seed_tells_nothing():
    one = gain({0: 50.0}, {0: 40.0})
    assert verdict('kd', one, one).startswith('kd cannot tell') and not decided(one)
    assert verdict('kd', None, one).startswith('kd cannot tell: no seed')


def test_caveats_name_an_undone_student_and_a_weak_teacher():
    undone, weak = caveats(46.0, [40.0, 41.0], [44.0, 45.0])
    assert 'not done' in undone and '+4.0' in undone and 'stronger' in weak
    done, strong = caveats(60.0, [40.0, 41.0], [40.5, 41.5])
    assert 'was done' in done and 'stronger' not in strong
    assert len(caveats(None, [40.0], [40.5])) == 1 and caveats(1.0, [], []) == []
