# What the segmentation demo's models share: a ResNet-18 of stride 8 that starts from scratch.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(64, 64)),
    backbone=dict(
        type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1), dilations=(1, 1, 1, 1), norm_cfg=norm_cfg, norm_eval=False,
        # PyTorch's own start, here and in the last layer. mmseg's is meant for pretrained
        # backbones and long schedules: in a few hundred steps narrow networks do not leave it.
        zero_init_residual=False,
        init_cfg=dict(
            type='Kaiming', layer='Conv2d', a=5**0.5, distribution='uniform', mode='fan_in',
            nonlinearity='leaky_relu')),
    decode_head=dict(
        in_index=3, dropout_ratio=0.1, num_classes=11, norm_cfg=norm_cfg, align_corners=False,
        init_cfg=dict(type='Normal', std=0.1, override=dict(name='conv_seg')),
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
