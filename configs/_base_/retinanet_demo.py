# A small RetinaNet for 64x64 scenes: ResNet-18, three levels from stride 8, BN everywhere.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(
        type='ResNet', depth=18, num_stages=4, out_indices=(1, 2, 3), strides=(1, 2, 2, 2),
        norm_cfg=norm_cfg, norm_eval=False, zero_init_residual=False,
        # PyTorch's own start: in a few hundred steps narrow networks do not leave mmdet's, which
        # is meant for pretrained backbones and long schedules.
        init_cfg=dict(
            type='Kaiming', layer='Conv2d', a=5**0.5, distribution='uniform', mode='fan_in',
            nonlinearity='leaky_relu')),
    neck=dict(type='FPN', num_outs=3, norm_cfg=norm_cfg),
    bbox_head=dict(
        type='RetinaHead', num_classes=10, stacked_convs=1, norm_cfg=norm_cfg,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=3, scales_per_octave=2,
            ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[1., 1., 1., 1.]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
            ignore_iof_thr=-1),
        sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=20))
