# The authors' Cityscapes setting: DeepLabV3-R101 teaches; 40k iterations at batch 16, SGD 0.02, poly
# 0.9 down to 1e-4. A variable and not settings, as these lie over what mmseg's configs say.
authors = dict(
    teacher=dict(
        config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3/'
        'deeplabv3_r101-d8_512x1024_80k_cityscapes/'
        'deeplabv3_r101-d8_512x1024_80k_cityscapes_20200606_113503-9e428899.pth'),
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000),
    optim_wrapper=dict(
        type='OptimWrapper', clip_grad=None,
        optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=5e-4)),
    param_scheduler=[
        dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=40000, by_epoch=False),
    ])
