# DIST, DeepLabV3-R101 -> this student: pixel logits before upsampling, ignored pixels included;
# the auxiliary heads have a term of their own, weighted like their task loss.
_base_ = 'mmseg::deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py'
custom_imports = dict(imports=['kd_plugin'], allow_failed_imports=False)
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3/'
        'deeplabv3_r101-d8_512x1024_80k_cityscapes/'
        'deeplabv3_r101-d8_512x1024_80k_cityscapes_20200606_113503-9e428899.pth'),
    distill=[
        dict(name='dist', student='decode_head.conv_seg', teacher='decode_head.conv_seg',
             loss=dict(type='DISTLoss')),
        dict(name='aux', student='auxiliary_head.conv_seg', teacher='auxiliary_head.conv_seg',
             loss=dict(type='DISTLoss', loss_weight=0.4)),
    ])
# The authors' Cityscapes schedule: 40k iterations, batch 16, SGD 0.02, poly 0.9 down to 1e-4.
train_dataloader = dict(batch_size=2)  # on each of 8 GPUs
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
optim_wrapper = dict(
    type='OptimWrapper', clip_grad=None,
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=40000, by_epoch=False),
]
