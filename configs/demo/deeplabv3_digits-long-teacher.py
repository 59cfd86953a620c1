# The segmentation teacher for students that are done: three times as long.
_base_ = 'deeplabv3_digits-teacher.py'
max_iters = 3600
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=300),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=300, end=max_iters, eta_min=1e-5),
]
