"""What two processes and one compute alike: losses, and steps of training."""

import architectures
import pairs
import torch
from mmengine.optim import build_optim_wrapper

import kd_plugin  # noqa: F401
from kd_plugin.losses import DISTLoss

# Rows that each process has, and options of the loss.
CASES = [
    ((40, 40), dict()),
    ((5, 90), dict(activation='sigmoid', tau=2.0)),
    ((30, 0), dict(inter_weight=0.5)),
    ((30, 50), dict(ignore_index=3)),
]


def loss(rows, options, shares):
    """Value, and the gradient with respect to the rows of the processes ``shares``.

    Where the processes are several, their gradients are averaged, as data-parallel training does.
    """
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, sum(rows), 12, generator=generator)
    target = torch.randint(12, (sum(rows),), generator=generator)
    parts = [torch.cat([part.split(rows)[i] for i in shares])
             for part in (student, teacher, target)]  # fmt: skip
    parts[0].requires_grad_()
    value = DISTLoss(global_batch=True, **options)(*parts)
    value.backward()
    return value.detach(), parts[0].grad * len(shares) / 2


def distiller():
    """A detector without batch statistics, whose own losses are averaged over processes."""
    torch.manual_seed(0)
    atss, = (case for case in architectures.DETECTORS if case.name == 'ATSS')
    cfg = atss.distiller(seg=False)
    cfg['student'].backbone.norm_eval = True
    cfg['distill'][0]['loss'].update(global_batch=True)
    model = pairs.build(cfg)
    model.init_weights()
    # Scores that differ: relations of nearly constant ones magnify rounding errors.
    for head in (model.student.bbox_head, model.teacher.bbox_head):
        torch.nn.init.normal_(head.atss_cls.weight, std=0.1)
    return model.train()


def train(model, images):
    """Two optimizer steps on some of a batch's images; the losses."""
    distiller = getattr(model, 'module', model)
    optimizer = build_optim_wrapper(distiller, dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)))  # fmt: skip
    logged = []
    for seed in range(2):
        torch.manual_seed(seed)
        batch = pairs.batch(distiller, 'retinanet')
        size = batch['inputs'].shape[-2:]
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(batch_input_shape=tuple(size)))
        part = dict(inputs=batch['inputs'][images],
                    data_samples=[batch['data_samples'][i] for i in images])  # fmt: skip
        losses = model(**part, mode='loss')
        total, values = distiller.parse_losses(losses)
        optimizer.update_params(total)
        logged.append({name: float(value) for name, value in values.items()})
    return logged
