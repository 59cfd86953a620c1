"""A teacher in another precision or memory format teaches the same, up to its rounding."""

import pairs
import pytest
import torch


def gradients(kind, **options):
    """Losses, and the student's gradient, with some teacher options."""
    torch.manual_seed(0)
    cfg = pairs.pair(kind)
    cfg['teacher'].update(options)
    distiller = pairs.build(cfg).train()
    compiled = [m for m in distiller.teacher.modules() if m._compiled_call_impl is not None]
    assert bool(compiled) == ('compile' in options)
    seen = []
    tap = distiller.entries[0].teacher
    distiller.teacher.get_submodule(tap).register_forward_hook(
        lambda module, args, output: seen.append(output.dtype))
    torch.manual_seed(1)
    losses = distiller(**pairs.batch(distiller, kind), mode='loss')
    own = {entry.key: losses[entry.key] for entry in distiller.entries}
    sum(own.values()).backward()
    grads = [p.grad.flatten() for p in distiller.student.parameters() if p.grad is not None]
    return own, torch.cat(grads), set(seen)


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn', 'pspnet'])
@pytest.mark.parametrize(('options', 'dtype', 'tolerance'), [
    (dict(channels_last=True), torch.float32, 1e-3),
    (dict(dtype='bfloat16'), torch.bfloat16, 0.1),
    (dict(compile=dict(backend='aot_eager')), torch.float32, 1e-3),
])  # fmt: skip
def test_teachers_options_change_no_more_than_rounding(kind, options, dtype, tolerance):
    plain, gradient, _ = gradients(kind)
    losses, other, seen = gradients(kind, **options)
    assert seen == {dtype}
    for name, value in plain.items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], value, rtol=tolerance, atol=tolerance)
    assert torch.cosine_similarity(gradient, other, 0) > 1 - tolerance
