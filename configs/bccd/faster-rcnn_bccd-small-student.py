# The Faster R-CNN student alone: 8 base channels.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py', '../_base_/two_stage_small.py',
    '../_base_/bccd_small.py', '../_base_/schedule_small.py']
model = dict(
    backbone=dict(
        depth=18, stem_channels=8, base_channels=8, out_indices=(1, 2, 3), frozen_stages=-1,
        norm_eval=False, zero_init_residual=False, init_cfg={{_base_.demo_start}}),
    neck=dict(
        in_channels=[16, 32, 64], out_channels=24, num_outs=3, norm_cfg={{_base_.demo_norm}}),
    rpn_head=dict(
        in_channels=24, feat_channels=24, anchor_generator={{_base_.demo_anchors}}),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=24, featmap_strides=[8, 16, 32], finest_scale=32),
        bbox_head=dict(in_channels=24, fc_out_channels=64, num_classes=3)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)), rpn_proposal={{_base_.demo_proposals}},
        rcnn=dict(sampler=dict(num=64))),
    test_cfg={{_base_.demo_test_cfg}})
