# DeepLabV3 teaches PSPNet, both for so long that the student's scores scatter by less than a point.
_base_ = 'pspnet_digits.py'
model = dict(teacher=dict(
    config='{{fileDirname}}/deeplabv3_digits-long-teacher.py',
    checkpoint='work_dirs/demo/deeplabv3_digits-long-teacher/seed-0/iter_3600.pth'))
max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=300),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=300, end=max_iters, eta_min=1e-5),
]
