"""The checks on their own: names and their order, counts, sizes, sentences."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from kd_plugin.doctor import Finding, class_names, costs, from_error, images, screen, teacher_file
from kd_plugin.doctor.class_order import Confusion, judge
from kd_plugin.doctor.score import ahead, knows_nothing
from kd_plugin.doctor.score import judge as judge_score

OWN = ['cat', 'dog', 'red fox']


@pytest.mark.parametrize(('theirs', 'logits', 'verdict', 'said'), [
    (OWN, True, 'good', 'the same order'),
    (['Cat', 'DOG', 'red_fox'], True, 'good', 'spelled otherwise'),
    (['dog', 'cat', 'red fox'], True, 'bad', "class 0 is 'cat' in your data and 'dog'"),
    (['dog', 'cat', 'red fox'], False, 'look', 'another order'),
    (['cat', 'dog', 'owl', 'red fox'], True, 'bad', '3 of your 3 classes are among the 4'),
    (['a', 'b', 'c'], True, 'look', 'no name in common'),
    (['a', 'b'], True, 'bad', 'no name in common'),
    (None, True, 'look', "neither the teacher's file nor its config"),
])  # fmt: skip
def test_names(theirs, logits, verdict, said):
    found = class_names.compare(OWN, theirs, None, 'the file', logits)
    assert found.verdict == verdict and said in found.found
    assert bool(found.write) == (verdict != 'good')


def test_names_that_are_mapped_must_be_those_of_data_and_file():
    theirs = ['dog', 'cat', 'red fox']
    mapped = dict(student=OWN, teacher=theirs)
    assert class_names.compare(OWN, theirs, mapped, 'the file', True).verdict == 'good'
    found = class_names.compare(OWN, theirs[::-1], mapped, 'the file', True)
    assert found.verdict == 'bad' and 'classes.teacher' in found.write


def test_names_are_found_inside_wrapped_data_sets():
    inner = dict(type='CocoDataset', metainfo=dict(classes=('a', 'b')))
    config = dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=inner)))
    assert class_names.of_config(config, 'mmdet') == ['a', 'b']
    del inner['metainfo']
    assert class_names.of_config(config, 'mmdet')[:2] == ['person', 'bicycle']
    with pytest.raises(ValueError, match=r"write classes=\('cat',\)"):
        class_names.of_data(dict(classes='cat'))


def segmented(truth, said):
    return {'gt_sem_seg': PixelData(data=truth[None]), 'pred_sem_seg': PixelData(data=said[None])}


class Sample(dict):
    __getattr__ = dict.__getitem__


def test_classes_that_trade_places_are_told_from_weak_ones():
    truth = torch.randint(4, (32, 32))
    for change, swapped in (
            (lambda t: t, {}), (lambda t: (t + 1) % 4, {0: 1, 1: 2, 2: 3, 3: 0}),
            (lambda t: t * 0, {}), (lambda t: torch.where(t == 2, 1, t), {})):
        confusion = Confusion(4)
        confusion.add(Sample(segmented(truth, change(truth))))
        assert confusion.swapped() == swapped
        assert judge(confusion, list('abcd')).verdict == ('bad' if swapped else 'good')
    assert judge(Confusion(4), list('abcd')) is None


def test_objects_are_called_by_the_surest_box_on_them():
    box = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]])
    truth = InstanceData(bboxes=box, labels=torch.tensor([0, 1, 2]))
    said = InstanceData(bboxes=box[[0, 0, 1]] + 0.5, labels=torch.tensor([2, 1, 0]),
                        scores=torch.tensor([0.3, 0.9, 0.5]))  # fmt: skip
    confusion = Confusion(3)
    confusion.add(Sample(gt_instances=truth, pred_instances=said))
    assert confusion.counts.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert confusion.swapped() == {0: 1, 1: 0}


def test_what_a_guess_is():
    confusion = Confusion(4)
    confusion.counts[:, 0] = 10
    assert knows_nothing('mIoU', 20.0, confusion)
    confusion.counts = torch.eye(4).long() * 10
    assert not knows_nothing('mIoU', 2.0, confusion)
    assert knows_nothing('coco/bbox_mAP', 0.2, confusion)
    assert [ahead(50, student, 'mIoU').verdict for student in (30, 48, 52)] == [
        'good', 'look', 'bad']  # fmt: skip


def test_a_detector_that_finds_nothing_knows_nothing():
    """Of which mmdet's evaluators make no number."""
    confusion = Confusion(1)
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0), scores=torch.zeros(0))
    confusion.add(Sample(gt_instances=InstanceData(
        bboxes=torch.ones(1, 4), labels=torch.zeros(1)), pred_instances=nothing))
    found = judge_score({}, {}, 3, True, confusion)
    assert found.verdict == 'bad' and found.found.startswith('it finds no object on all 3 images')
    assert found.write.startswith('a teacher trained on such data')
    assert judge_score({}, {}, 3, True, Confusion(1)).verdict == 'look'


def test_what_a_file_claims():
    history = SimpleNamespace(_log_history=[0.2, 0.4])
    kept = dict(message_hub=dict(log_scalars={'val/coco/bbox_mAP': history, 'val/time': history}),
                meta=dict(CLASSES=('a', 'b')))  # fmt: skip
    assert teacher_file.claims(kept) == {'coco/bbox_mAP': 0.4}
    assert teacher_file.classes(kept) == ['a', 'b']
    assert teacher_file.claims({}) == {} and teacher_file.classes({}) is None


def test_sizes_of_training():
    def config(*pipeline):
        return dict(model={}, train_dataloader=dict(dataset=dict(dataset=dict(pipeline=pipeline))))

    resize = dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)])
    assert images.trained_size(config(resize)) == (800, 1333)
    assert images.trained_size(config(resize, dict(type='RandomCrop', crop_size=(512, 1024)))) == (
        512, 1024)  # fmt: skip
    assert images.trained_size(config()) is None


def test_the_peak_of_a_step():
    def step():
        first = torch.ones(1000, 1000)
        del first
        return torch.ones(2, 1000, 1000) + 1

    peak = costs.peak_memory(step)
    if not torch.cuda.is_available():
        assert 16e6 <= peak < 17e6


def test_words():
    found = from_error('x', RuntimeError())
    assert found.verdict == 'bad' and found.found.startswith('RuntimeError')
    printed = screen('title', [Finding('a', 'look', 'word ' * 60, 'write ' * 40)], width=80)
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.endswith('Nothing speaks against training; 1 to look at.')


@pytest.mark.parametrize(('every', 'seconds'), [(1, 300), (2, 200), (4, 150)])
def test_a_teacher_that_rests_between_times_costs_as_much_less(every, seconds):
    _, whole = costs.judge(costs.Cost(1.0, None), costs.Cost(3.0, None), 100, every)
    assert whole.values == dict(iterations=100, seconds=seconds, alone=100)
