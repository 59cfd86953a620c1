# The FPN student alone: ResNet-18 with 8 base channels, from nothing.
_base_ = ['../_base_/camvid_small.py', '../_base_/schedule_demo.py']
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(96, 128)),
    backbone=dict(
        type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3), stem_channels=8,
        base_channels=8, norm_cfg=norm_cfg, norm_eval=False, zero_init_residual=False,
        # PyTorch's own start; see segmentor_demo.py.
        init_cfg=dict(
            type='Kaiming', layer='Conv2d', a=5**0.5, distribution='uniform', mode='fan_in',
            nonlinearity='leaky_relu')),
    neck=dict(
        type='FPN', in_channels=[8, 16, 32, 64], out_channels=32, num_outs=4,
        norm_cfg=norm_cfg),
    decode_head=dict(
        type='FPNHead', in_channels=[32] * 4, in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32], channels=24, dropout_ratio=0.1, num_classes=11,
        norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
optim_wrapper = dict(optimizer=dict(weight_decay=1e-2))
