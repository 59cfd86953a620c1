"""Errors of detectors by kind: each planted one is found as its own; AP against pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kd_plugin.analysis.detection_errors import (
    KINDS,
    Boxes,
    average_precision,
    coco_ap,
    find_errors,
    overlaps,
)

CLASSES = 3


def scene(random, objects=4):
    """Objects that do not touch, each 20 pixels wide, in a row of places 100 pixels apart."""
    corners = np.arange(objects)[:, None] * [100.0, 0]
    return Boxes(np.hstack([corners, corners + 20]), random.integers(CLASSES, size=objects))


def detections(truth, random):
    return Boxes(truth.bboxes, truth.labels, random.uniform(0.5, 1, len(truth.labels)))


def plus(boxes, bbox, label, score):
    return Boxes(np.vstack([boxes.bboxes, bbox]), [*boxes.labels, label], [*boxes.scores, score])


def guesses(random, truth, number=12):
    """Detections around the objects and elsewhere, some of a wrong class, ties among scores."""
    near = truth.bboxes[random.integers(len(truth.labels), size=number)]
    boxes = near + random.normal(0, 6, (number, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return Boxes(boxes, random.integers(CLASSES, size=number),
                 random.uniform(size=number).round(1))  # fmt: skip


@pytest.mark.parametrize('seed', range(3))
def test_a_perfect_detector_has_no_errors(seed):
    random = np.random.default_rng(seed)
    truth = [scene(random) for _ in range(5)]
    found = find_errors([detections(one, random) for one in truth], truth)
    assert found.counts() == dict.fromkeys(KINDS, 0)
    assert found.ap() == 1 and found.costs() == dict.fromkeys(KINDS, 0)


def other(label):
    return (label + 1) % CLASSES


# Added to a perfect detector's boxes of an object: (shift to the right, another class).
PLANTED = {'duplicate': (1, False), 'background': (50, False)}
# In place of its box.
REPLACED = {'localisation': (12, False), 'class': (1, True), 'both': (12, True)}


@pytest.mark.parametrize('kind', KINDS)
def test_a_planted_error_is_counted_once_as_its_own_kind(kind):
    random = np.random.default_rng(0)
    truth = [scene(random) for _ in range(3)]
    found = [detections(one, random) for one in truth]
    box, label = truth[1].bboxes[2], truth[1].labels[2]
    if kind in PLANTED:
        found[1] = plus(found[1], box + [PLANTED[kind][0], 0] * 2, label, 0.3)
    else:
        keep = np.arange(4) != 2
        found[1] = Boxes(found[1].bboxes[keep], found[1].labels[keep], found[1].scores[keep])
        if kind in REPLACED:
            shift, wrong = REPLACED[kind]
            found[1] = plus(found[1], box + [shift, 0] * 2, other(label) if wrong else label, 0.95)
    errors = find_errors(found, truth)
    expected = dict.fromkeys(KINDS, 0) | {kind: 1}
    if kind == 'both':  # the object itself is found by nothing that could be mended
        expected['missed'] = 1
    assert errors.counts() == expected
    if kind not in ('duplicate', 'background', 'both'):
        assert errors.ap() < 1 and errors.ap(mended=[kind]) == 1


@pytest.mark.parametrize('seed', range(20))
def test_mending_all_kinds_gives_an_ap_of_one_and_no_kind_costs_less_than_nothing(seed):
    random = np.random.default_rng(seed)
    truth = [scene(random) for _ in range(4)]
    errors = find_errors([guesses(random, one) for one in truth], truth)
    assert errors.ap(mended=KINDS) == 1
    assert errors.ap() < 1
    correct = int((errors.kinds == 'correct').sum())
    assert sum(errors.counts().values()) - errors.counts()['missed'] + correct == 48
    assert errors.found.sum() == correct
    # Less than nothing only by the 101 recalls at which the precision is read.
    assert min(errors.costs().values()) > -0.01


def coco(found, truth):
    """AP of pycocotools: at 0.5, over all overlaps, and that by class."""
    images = [dict(id=i, width=500, height=100) for i in range(len(truth))]
    boxes = [(i, box, label, crowd) for i, one in enumerate(truth)
             for box, label, crowd in zip(one.bboxes, one.labels, one.ignored, strict=True)]
    annotations = [
        dict(id=n + 1, image_id=i, category_id=int(label), iscrowd=int(crowd),
             bbox=[box[0], box[1], box[2] - box[0], box[3] - box[1]],
             area=float((box[2] - box[0]) * (box[3] - box[1])))
        for n, (i, box, label, crowd) in enumerate(boxes)]  # fmt: skip
    results = [
        dict(image_id=i, category_id=int(label), score=float(score),
             bbox=[box[0], box[1], box[2] - box[0], box[3] - box[1]])
        for i, one in enumerate(found)
        for box, label, score in zip(one.bboxes, one.labels, one.scores, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = dict(images=images, annotations=annotations,
                            categories=[dict(id=i, name=str(i)) for i in range(CLASSES)])
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval['precision'][:, :, :, 0, 2]
    return evaluation.stats[1], precision.mean((0, 1))


@pytest.mark.parametrize('crowds', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_ap_is_that_of_pycocotools(seed, crowds):
    random = np.random.default_rng(seed)
    truth = [scene(random, 5) for _ in range(6)]
    found = [guesses(random, one) for one in truth]
    for one in found:  # which of two with one score is first decides, and each library sorts
        one.scores = random.permutation(1000)[: len(one.scores)] / 1000 + random.uniform(0, 1e-4)
    if crowds:
        for one in truth:
            one.ignored[0] = True
    at_half, by_class = coco(found, truth)
    assert find_errors(found, truth).ap() == pytest.approx(at_half, abs=1e-9)
    ours = coco_ap(found, truth, range(CLASSES))
    np.testing.assert_allclose(list(ours.values()), by_class, atol=1e-9)


def test_a_detection_on_a_crowd_is_no_error():
    truth = [Boxes([[0, 0, 100, 100], [200, 0, 220, 20]], [0, 0], ignored=[True, False])]
    found = [Boxes([[10, 10, 20, 20], [200, 0, 220, 20]], [0, 0], np.array([0.9, 0.8]))]
    errors = find_errors(found, truth)
    assert errors.kinds.tolist() == ['ignored', 'correct']
    assert errors.ap() == 1 and not any(errors.counts().values())


def test_nothing_is_found_and_nothing_is_there():
    nothing = Boxes([], [], np.zeros(0))
    errors = find_errors([nothing], [Boxes([[0, 0, 9, 9]], [1])])
    assert errors.counts()['missed'] == 1 and errors.ap() == 0
    assert errors.ap(mended=['missed']) == 1
    assert np.isnan(find_errors([nothing], [Boxes([], [])]).ap())
    assert find_errors([], []).counts() == dict.fromkeys(KINDS, 0)
    assert np.isnan(coco_ap([nothing], [Boxes([], [])], [0])[0])
    assert average_precision(np.array([0.5]), np.array([False]), 0) == 0


def test_overlaps_are_symmetric_and_one_with_themselves():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 50, (6, 2))
    boxes = np.hstack([corner, corner + random.uniform(1, 50, (6, 2))])
    np.testing.assert_allclose(overlaps(boxes, boxes), overlaps(boxes, boxes).T)
    np.testing.assert_allclose(np.diag(overlaps(boxes, boxes)), 1)
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))) == 0


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match='of 1 images and objects of 0'):
        find_errors([Boxes([], [], np.zeros(0))], [])
    with pytest.raises(ValueError, match='image 0 have no scores'):
        find_errors([Boxes([], [])], [Boxes([], [])])
