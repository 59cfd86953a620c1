"""A pair's config takes any method, the student alone among them."""

import pytest
from by_method import run_name, with_method
from mmengine.config import Config

TEXT = """
train_cfg = dict({unit}, val_interval=30)
by_epoch = {by_epoch}
param_scheduler = [
    dict(type='LinearLR', begin=0, end=10, by_epoch=by_epoch),
    dict(type='CosineAnnealingLR', begin=10, end=30, T_max=30, by_epoch=by_epoch),
    dict(type='MultiStepLR', begin=0, end=30, milestones=[20, 27], by_epoch=by_epoch)]
model = dict(type='SegmentorDistiller', student=dict(type='A'), teacher=dict(config='t.py'),
             distill='dist-plus', acclimation=dict(lr_mult=0.1), classes=dict())
"""


def config(unit='max_iters=30'):
    return Config.fromstring(TEXT.format(unit=unit, by_epoch='epochs' in unit), '.py')


def test_a_method_takes_the_place_of_the_one_that_was_there():
    cfg = with_method(config(), 'kd')
    assert cfg.model == dict(type='SegmentorDistiller', student=dict(type='A'),
                             teacher=dict(config='t.py'), distill='kd', classes=dict())
    cfg = with_method(config(), 'dist-plus:tau=2,acclimation=dict(lr_mult=1)')
    assert cfg.model.distill == dict(type='dist-plus', tau=2, acclimation=dict(lr_mult=1))
    assert {k: v for k, v in cfg.items() if k != 'model'} == {
        k: v for k, v in config().items() if k != 'model'}


def test_none_is_the_student_alone():
    cfg = with_method(config(), 'none')
    assert cfg.model == dict(type='A')
    assert with_method(cfg, 'none').model == dict(type='A')


def test_any_method_trains_for_longer():
    cfg = with_method(config(), 'dist:iters=60,every=2')
    assert cfg.train_cfg.max_iters == 60 and cfg.param_scheduler[1].end == 60
    assert cfg.model.distill == dict(type='dist', every=2)


@pytest.mark.parametrize('unit', ['iters', 'epochs'])
def test_the_student_alone_trains_for_longer_on_a_stretched_schedule(unit):
    cfg = with_method(config(f'max_{unit}=30'), f'none:{unit}=60')
    assert cfg.train_cfg == {f'max_{unit}': 60, 'val_interval': 60}
    warm_up, cosine, steps = cfg.param_scheduler
    by_epoch = dict(by_epoch=unit == 'epochs')
    assert warm_up == dict(type='LinearLR', begin=0, end=10, **by_epoch)
    assert cosine == dict(type='CosineAnnealingLR', begin=10, end=60, T_max=60, **by_epoch)
    assert (steps.end, steps.milestones) == (60, [40, 54])


@pytest.mark.parametrize(('name', 'expected'), [
    ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py', [(0, 1000), (300, 600, 300)]),
    ('yolox/yolox_tiny_8xb8-300e_coco.py', [(0, 5), (5, 570, 570), (570, 600)]),
    ('retinanet/retinanet_r50_fpn_2x_coco.py', [(0, 500), (0, 600, [400, 550])]),
])  # fmt: skip
def test_schedules_of_the_zoo_are_stretched(name, expected):
    cfg = Config.fromstring(f"_base_ = 'mmdet::{name}'", '.py')
    total = cfg.train_cfg.max_epochs
    new = 600 if total == 300 else 24 * 25
    cfg = with_method(cfg, f'none:epochs={new}')
    found = [tuple(one[key] for key in ('begin', 'end', 'T_max', 'milestones') if key in one)
             for one in cfg.param_scheduler]  # fmt: skip
    assert found == expected
    for hook in cfg.get('custom_hooks', []):
        assert hook.get('switch_epoch', new - 20) == new - 20
    if 'dynamic_intervals' in cfg.train_cfg:
        assert cfg.train_cfg.dynamic_intervals[0][0] in (new - 20, new - 15)


@pytest.mark.parametrize(('method', 'message'), [
    ('none:epochs=60', 'trains by iters; write iters=NUMBER'),
    ('none:iters=10', 'a length of 10 ends within the warm-up of 10; write more'),
    ('none:long=2', r"the student alone takes .*, not \['long'\]"),
    ('dist-pluss', "write 'dist-plus', or one"),
])  # fmt: skip
def test_what_does_not_fit_is_said(method, message):
    with pytest.raises(ValueError, match=message):
        with_method(config(), method)


def test_a_plain_model_takes_no_method():
    with pytest.raises(ValueError, match='has no teacher'):
        with_method(with_method(config(), 'none'), 'kd')


def test_methods_of_modules_of_ones_own_are_left_to_these():
    cfg = config()
    cfg.custom_imports = dict(imports=['kd_plugin', 'mine'])
    assert with_method(cfg, 'my-method').model.distill == 'my-method'


@pytest.mark.parametrize(('method', 'distills', 'name'), [
    (None, True, 'demo/pair'),
    ('dist-plus', True, 'demo/dist-plus_pair'),
    ('none', True, 'demo/pair-student'),
    ('none', False, 'demo/pair'),
    ('none:iters=560', True, 'demo/pair-student,iters=560'),
    ('dist:tau=4,relation=kl', True, 'demo/dist,tau=4,relation=kl_pair'),
    ('dist-plus:acclimation=dict()', True, 'demo/dist-plus,acclimation_pair'),
    ("dist-plus:acclimation=dict(lr_mult=0.1,modules=['a.b'])", True,
     'demo/dist-plus,acclimation.lr_mult=0.1,acclimation.modules=a.b_pair'),
])  # fmt: skip
def test_runs_have_names_that_say_the_method(method, distills, name):
    assert run_name('demo/pair', method, distills) == name
