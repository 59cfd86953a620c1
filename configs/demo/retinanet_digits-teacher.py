# The RetinaNet teacher: 32 base channels, a deeper head, a longer schedule.
_base_ = '_base_retinanet_digits.py'
max_iters = 1800
model = dict(
    backbone=dict(stem_channels=32, base_channels=32),
    neck=dict(in_channels=[64, 128, 256], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96, stacked_convs=2))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
