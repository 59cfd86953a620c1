_base_ = 'cells-teacher.py'
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=24, stacked_convs=1))
train_dataloader = dict(dataset=dict(indices=20))
train_cfg = dict(max_epochs=120, val_interval=120)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', begin=0, end=120, by_epoch=True, milestones=[80, 110], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=120))
