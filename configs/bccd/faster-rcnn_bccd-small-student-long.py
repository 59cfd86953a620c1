# The Faster R-CNN student alone for as long as DIST+ takes, a step of which costs 1.5 of its own.
_base_ = 'faster-rcnn_bccd-small-student.py'
train_cfg = dict(max_iters=450, val_interval=450)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=450, eta_min=1e-5),
]
