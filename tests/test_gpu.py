"""What holds on a CPU holds on a GPU, in every precision, and the host does not wait for it."""

import copy
import socket
import subprocess
import sys
import warnings

import pairs
import pytest
import torch
from mmengine.registry import MODELS

from kd_plugin import fused
from kd_plugin.compiled import Compiled
from kd_plugin.views import OPERATIONS, VirtualViews

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

LOSSES = {
    'dist_sigmoid': dict(type='DISTLoss', activation='sigmoid'),
    'dist_softmax': dict(type='DISTLoss'),
    'dist_anchors': dict(type='DISTLoss', activation='sigmoid', num_classes=20),
    'features': dict(type='FeatureRelationLoss'),
    'kd': dict(type='LogitKLLoss'),
    'mimic': dict(type='FeatureMimicLoss'),
    'cwd': dict(type='ChannelWiseLoss', tau=4.0),
    'pkd': dict(type='PKDLoss'),
}
# With layers; those of MGD without a mask, which a GPU draws otherwise.
LAYERED = {
    'fgd': dict(type='FGDLoss', tau=2.0),
    'mgd': dict(type='MGDLoss', mask_ratio=0.0),
}
# By the formulas, and by the fused kernels.
SHAPES = {'small': (2, 40, 9, 13), 'large': (2, 80, 50, 84)}


@pytest.fixture(autouse=True)
def full_fp32():
    """Convolutions of fp32 numbers in fp32, as on a CPU."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def value_and_gradient(loss, student, *others):
    student = student.detach().requires_grad_()
    value = loss(student, *others)
    value.backward()
    return value.detach(), student.grad


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', LOSSES)
def test_losses_are_those_of_a_cpu(name, shape):
    loss = MODELS.build(LOSSES[name])
    student, teacher = torch.randn(2, *SHAPES[shape])
    assert fused.pays(student) == (shape == 'large')
    value, gradient = value_and_gradient(loss, student.double(), teacher.double())
    got, moved = value_and_gradient(loss, student.cuda(), teacher.cuda())
    assert got.is_cuda and got.dtype == torch.float32
    torch.testing.assert_close(got.cpu(), value.float(), rtol=1e-5, atol=1e-6)
    scale = gradient.abs().max()
    torch.testing.assert_close(moved.cpu() / scale, gradient / scale, rtol=0, atol=1e-4,
                               check_dtype=False)
    assert Compiled.works


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', LOSSES)
def test_half_precision_is_widened_inside_autocast(name, dtype):
    loss = MODELS.build(LOSSES[name])
    student, teacher = (torch.randn(2, *SHAPES['large'], device='cuda') * 20).to(dtype)
    expected, _ = value_and_gradient(loss, student.float(), teacher.float())
    with torch.autocast('cuda', dtype):
        value, gradient = value_and_gradient(loss, student, teacher)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert gradient.isfinite().all()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', LOSSES)
def test_no_loss_waits_for_the_gpu(name, shape):
    loss = MODELS.build(LOSSES[name])
    student, teacher = torch.randn(2, *SHAPES[shape], device='cuda')
    value_and_gradient(loss, student, teacher)  # compiles
    assert waits(lambda: value_and_gradient(loss, student, teacher)) == 0


def layered(name, shape, dtype=torch.float32, **changes):
    """A loss with layers and what it is called with."""
    loss = MODELS.build(dict(LAYERED[name], channels=shape[1], **changes)).to(dtype)
    maps = list(torch.randn(2, *shape, dtype=dtype))
    boxes = [torch.rand(5, 2, 2).sort(1).values.flatten(1), torch.zeros(0, 4)]
    return loss, maps + ([boxes] if name == 'fgd' else [])


def moved(arguments):
    return [[box.cuda() for box in part] if isinstance(part, list) else part.cuda()
            for part in arguments]  # fmt: skip


def with_gradients(loss, student, *rest):
    student = student.detach().requires_grad_()
    value = loss(student, *rest)
    value.backward()
    return value.detach(), student.grad, [p.grad for p in loss.parameters()]


@pytest.mark.parametrize('name', LAYERED)
def test_losses_with_layers_are_those_of_a_cpu(name):
    loss, arguments = layered(name, SHAPES['small'], torch.float64)
    value, gradient, own = with_gradients(loss, *arguments)
    loss.zero_grad()
    got, moving, moved_own = with_gradients(loss.cuda(), *moved(arguments))
    torch.testing.assert_close(got.cpu(), value)
    for found, expected in zip([moving, *moved_own], [gradient, *own], strict=True):
        torch.testing.assert_close(found.cpu(), expected)


@pytest.mark.parametrize('name', LAYERED)
def test_no_loss_with_layers_waits_for_the_gpu(name):
    changes = dict(mask_ratio=0.5) if name == 'mgd' else {}
    loss, arguments = layered(name, SHAPES['large'], **changes)
    loss, arguments = loss.cuda(), moved(arguments)
    with_gradients(loss, *arguments)  # sets convolutions up
    assert waits(lambda: with_gradients(loss, *arguments)) == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', LAYERED)
def test_losses_with_layers_are_in_fp32_inside_autocast(name, dtype):
    loss, (student, teacher, *rest) = layered(name, SHAPES['small'])
    student, teacher, *rest = moved([student.to(dtype), teacher.to(dtype), *rest])
    expected, _, _ = with_gradients(loss.cuda(), student.float(), teacher.float(), *rest)
    with torch.autocast('cuda', dtype):
        value, gradient, own = with_gradients(loss, student, teacher, *rest)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert all(found.isfinite().all() for found in (gradient, *own))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_masks_are_drawn_on_the_gpu_and_come_back_with_the_state():
    (loss, (like, _)) = layered('mgd', SHAPES['small'], mask_ratio=0.65)
    before = torch.cuda.get_rng_state()
    state, like = loss.state_dict(), like.cuda()
    first = loss.mask(like)
    assert first.is_cuda and 0.25 < first.mean() < 0.45
    assert torch.equal(torch.cuda.get_rng_state(), before)
    loss.load_state_dict(state)
    assert torch.equal(loss.mask(like), first)


def waits(function):
    """How often a call makes the host wait for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter('always')
            function()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(warning.message) for warning in found)


def test_waits_are_counted():
    flags = torch.ones(3, device='cuda', dtype=torch.bool)
    assert waits(lambda: flags + flags) == 0
    assert waits(lambda: (flags.nonzero(), flags.sum().item())) >= 2


def gradient(model):
    return torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])


def step(model, data):
    model.zero_grad()
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    return losses


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_a_training_step_is_that_of_a_cpu(kind):
    distiller = pairs.build(pairs.pair(kind)).eval()  # no dropout
    data = pairs.batch(distiller, kind)
    expected = step(distiller, data)
    direction = gradient(distiller)
    distiller.cuda()
    assert next(distiller.teacher.parameters()).is_cuda
    got = step(distiller, dict(inputs=data['inputs'].cuda(),
                               data_samples=[sample.cuda() for sample in data['data_samples']]))
    for entry in distiller.entries:
        torch.testing.assert_close(
            got[entry.key].cpu(), expected[entry.key], rtol=1e-3, atol=1e-4)
    assert torch.cosine_similarity(direction, gradient(distiller), 0) > 0.999


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_a_training_step_waits_no_more_often_than_the_plain_students(kind):
    distiller = pairs.build(pairs.pair(kind)).cuda()
    data = pairs.batch(distiller, kind)
    for model in (distiller.student, distiller):
        step(model, data)
    plain, distilled = (waits(lambda model=model: step(model, data))
                        for model in (distiller.student, distiller))
    assert distilled == plain


@pytest.mark.parametrize(('method', 'kind'), [
    ('fgd', 'retinanet'), ('mgd', 'retinanet'), ('mgd', 'pspnet'), ('pkd', 'retinanet'),
    ('cwd', 'pspnet'),
])  # fmt: skip
def test_a_rivals_step_waits_no_more_often_than_the_plain_students(method, kind):
    distiller = pairs.build(dict(pairs.pair(kind), distill=method)).cuda()
    data = pairs.batch(distiller, kind)
    for model in (distiller.student, distiller):
        step(model, data)
    plain, distilled = (waits(lambda model=model: step(model, data))
                        for model in (distiller.student, distiller))
    assert distilled == plain


@pytest.mark.parametrize(('kind', 'dtype'), [
    ('retinanet', 'float16'), ('pspnet', 'float16'), ('pspnet', 'bfloat16'),
    ('faster_rcnn', 'float16'),  # mmcv's focal loss and RoI operators know no bfloat16
])  # fmt: skip
def test_mixed_precision_trains_with_losses_in_fp32(kind, dtype, tmp_path, digits):
    cfg = pairs.pair(kind)
    cfg['acclimation'] = {}
    optim_wrapper = dict(type='AmpOptimWrapper', dtype=dtype)
    runner = pairs.runner(cfg, tmp_path, digits, seg=kind == 'pspnet',
                          optim_wrapper=optim_wrapper, **copy.deepcopy(pairs.NO_VALIDATION))
    losses = set()
    for entry in runner.model.entries:
        entry.loss.register_forward_hook(
            lambda module, args, output: losses.add((output.dtype, output.isfinite().item())))
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    assert losses == {(torch.float32, True)}
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(value.to(after[key].device), after[key])
               for key, value in before.items())


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
def test_images_without_labels_in_mixed_precision(kind, tmp_path, digits):
    unlabelled = dict(dataset=str(digits / 'images/val'), ratio=(1, 2), strong={}, threshold=0.05)
    runner = pairs.runner(pairs.pair(kind), tmp_path, digits, seg=kind == 'pspnet',
                          optim_wrapper=dict(type='AmpOptimWrapper', dtype='float16'),
                          unlabelled=unlabelled, **copy.deepcopy(pairs.NO_VALIDATION))
    losses = set()
    for entry in runner.model.entries:
        entry.loss.register_forward_hook(
            lambda module, args, output: losses.add((output.dtype, output.isfinite().item())))
    runner.train()
    assert losses == {(torch.float32, True)}
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())


@pytest.mark.parametrize('options', [
    dict(dtype='float16'), dict(dtype='bfloat16'), dict(channels_last=True), dict(compile=True),
], ids=str)  # fmt: skip
@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
def test_teachers_options_change_no_more_than_rounding(kind, options):
    losses = []
    for changes in ({}, options):
        torch.manual_seed(0)
        cfg = pairs.pair(kind)
        cfg['teacher'].update(changes)
        distiller = pairs.build(cfg).cuda()
        torch.manual_seed(1)
        found = step(distiller, pairs.batch(distiller, kind))
        losses.append({entry.key: found[entry.key] for entry in distiller.entries})
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=0.1, atol=0.1)


def test_a_launched_process_trains_with_synchronised_norms(tmp_path, digits):
    cfg = pairs.training(pairs.pair('pspnet'), tmp_path / 'run', digits, seg=True, max_iters=2,
                         **copy.deepcopy(pairs.NO_VALIDATION))  # fmt: skip
    cfg.sync_bn = 'torch'
    cfg.dump(tmp_path / 'config.py')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=1',
         f'--master_port={port}', 'tools/train.py', str(tmp_path / 'config.py'), '--launcher',
         'pytorch'], check=True)  # fmt: skip
    last = torch.load(tmp_path / 'run/student_last.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in last.values())


def four_logits(device, dtype=torch.float32):
    return [x.to(device, dtype) for x in torch.randn(4, *SHAPES['small'])]


def test_relations_of_two_views_are_those_of_a_cpu():
    """All rows are drawn: which of them, each device would draw for itself."""
    loss = MODELS.build(dict(type='VRMLoss', samples=300, adaptor=False))
    four = four_logits('cpu')
    value, gradient = value_and_gradient(loss, four[0].double(), *(x.double() for x in four[1:]))
    got, moved = value_and_gradient(loss, *(x.cuda() for x in four))
    torch.testing.assert_close(got.cpu(), value.float(), rtol=1e-4, atol=1e-5)
    scale = gradient.abs().max()
    torch.testing.assert_close(moved.cpu() / scale, gradient / scale, rtol=0, atol=1e-3,
                               check_dtype=False)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_relations_of_two_views_are_fp32_inside_autocast(dtype):
    loss = MODELS.build(dict(type='VRMLoss', num_classes=40)).cuda()
    with torch.autocast('cuda', dtype):
        value, gradient = value_and_gradient(loss, *four_logits('cuda', dtype))
    assert value.dtype == torch.float32 and value.isfinite() and gradient.isfinite().all()


def test_neither_views_nor_their_relations_wait_for_the_gpu():
    loss = MODELS.build(dict(type='VRMLoss', num_classes=40)).cuda()
    four = four_logits('cuda')
    value_and_gradient(loss, *four)
    assert waits(lambda: value_and_gradient(loss, *four)) == 0
    mean = torch.full((3, 1, 1), 120.0)
    views = VirtualViews(mean, mean / 2, operations=5).cuda()
    images = torch.randn(8, 3, 64, 96, device='cuda')
    views(images)
    assert waits(lambda: views(images)) == 0


@pytest.mark.parametrize('name', OPERATIONS)
def test_views_are_those_of_a_cpu(name):
    image = (255 * torch.rand(3, 40, 50)).round()
    got = OPERATIONS[name](image.cuda(), 1 / 3)
    torch.testing.assert_close(got.cpu(), OPERATIONS[name](image, 1 / 3), rtol=0, atol=1e-3)


@pytest.mark.parametrize('kind', ['retinanet', 'pspnet'])
def test_a_step_over_two_views_waits_as_often_as_two_of_the_plain_student(kind):
    distiller = pairs.build(dict(pairs.pair(kind), distill='vrm')).cuda()
    data = pairs.batch(distiller, kind)
    for model in (distiller.student, distiller):
        step(model, data)
    plain, distilled = (waits(lambda model=model: step(model, data))
                        for model in (distiller.student, distiller))
    assert distilled <= 2 * plain
