# The two-stage teacher: Cascade Mask R-CNN with 24 base channels, trained with masks.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py', '../_base_/two_stage_demo.py',
    '../_base_/digit_scenes_det.py', '../_base_/schedule_demo_teacher.py']
model = dict(
    backbone=dict(
        depth=18, stem_channels=24, base_channels=24, frozen_stages=-1, norm_eval=False,
        zero_init_residual=False, init_cfg={{_base_.demo_start}}),
    neck=dict(
        in_channels=[24, 48, 96, 192], out_channels=32, num_outs=4,
        norm_cfg={{_base_.demo_norm}}),
    rpn_head=dict(
        in_channels=32, feat_channels=32, anchor_generator={{_base_.demo_anchors}}),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32, finest_scale=16),
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead', in_channels=32, fc_out_channels=128, roi_feat_size=7,
                num_classes=10, reg_class_agnostic=True,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.],
                    target_stds=[0.1 / stage, 0.1 / stage, 0.2 / stage, 0.2 / stage]),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0))
            for stage in (1, 2, 3)],
        mask_roi_extractor=dict(
            out_channels=32, finest_scale=16, roi_layer=dict(output_size=7)),
        mask_head=dict(num_convs=2, in_channels=32, conv_out_channels=32, num_classes=10)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)), rpn_proposal={{_base_.demo_proposals}},
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner', pos_iou_thr=overlap, neg_iou_thr=overlap,
                    min_pos_iou=overlap, match_low_quality=False, ignore_iof_thr=-1),
                sampler=dict(
                    type='RandomSampler', num=32, pos_fraction=0.25, neg_pos_ub=-1,
                    add_gt_as_proposals=True),
                mask_size=14, pos_weight=-1, debug=False)
            for overlap in (0.5, 0.6, 0.7)]),
    test_cfg={{_base_.demo_test_cfg}})
