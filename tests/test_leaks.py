"""The short form of tests/leaks.py: nothing grows over some steps, broken ones among them."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / 'benchmarks'))
import leaks


@pytest.mark.parametrize(('kind', 'method'), [
    ('retinanet', 'vrm'), ('faster_rcnn', 'dist-plus'), ('pspnet', 'unlabelled')])
def test_nothing_outlives_a_step(kind, method):
    found = leaks.grown(kind, method, 40)
    assert found['raised'] and found['hooks'] == found['tensors'] == 0
    assert found['memory'] < 20 * 2**20  # a step holds more
