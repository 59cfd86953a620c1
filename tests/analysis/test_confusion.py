"""Confusion matrices, against scikit-learn and against what was planted."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from kd_plugin.analysis import confusion as C
from kd_plugin.analysis.detection_errors import Boxes


def labels(seed, classes=4):
    random = np.random.default_rng(seed)
    return random.integers(classes, size=(5, 6)), random.integers(classes, size=(5, 6))


def test_pixels_are_counted_as_scikit_learn_counts_them():
    predicted, truth = labels(0)
    found = C.pixel_confusion(predicted, truth, 4)
    np.testing.assert_array_equal(found, confusion_matrix(truth.ravel(), predicted.ravel()))
    np.testing.assert_allclose(
        C.class_iou(found), jaccard_score(truth.ravel(), predicted.ravel(), average=None))


def test_ignored_pixels_do_not_count():
    predicted, truth = labels(1)
    whole = C.pixel_confusion(predicted, truth, 4)
    truth[0] = 255
    assert C.pixel_confusion(predicted, truth, 4).sum() == whole.sum() - 6
    assert np.isnan(C.class_iou(C.pixel_confusion(np.zeros(1, int), np.zeros(1, int), 2))[1])


def test_boxes_are_paired_by_overlap_whatever_their_class():
    truth = [Boxes([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 1, 1],
                   ignored=[False, False, True])]
    found = [Boxes([[0, 0, 10, 10], [0, 0, 10, 9], [70, 0, 80, 10], [40, 0, 50, 10],
                    [20, 0, 30, 10]], [1, 0, 0, 1, 1], np.array([0.9, 0.8, 0.7, 0.9, 0.1]))]
    expected = [[0, 1, 0], [0, 0, 1], [2, 0, 0]]  # of class 1 one is missed, one is ignored
    np.testing.assert_array_equal(C.box_confusion(found, truth, 2), expected)
    assert C.box_confusion(found, truth, 2, score=0.05)[1].tolist() == [0, 1, 0]


def test_changes_name_the_pair_of_classes():
    before, after = np.diag([10, 10, 10]), np.diag([10, 10, 10])
    before[1] = [4, 6, 0]
    before[2] = [0, 1, 9]
    assert C.changes(before, after) == [(1, 0, 0.4, 0.0), (2, 1, 0.1, 0.0)]
    assert C.changes(before, before) == []
    with pytest.raises(ValueError, match='of the same classes'):
        C.changes(before, np.eye(2))


def test_maps_and_images_must_fit():
    with pytest.raises(ValueError, match='maps of one size'):
        C.pixel_confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match='of 0 images and objects of 1'):
        C.box_confusion([], [Boxes([], [])], 2)
