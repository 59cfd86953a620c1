# The Faster R-CNN student alone: 8 base channels.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py', '../_base_/two_stage_demo.py',
    '../_base_/digit_scenes_det.py', '../_base_/schedule_demo.py']
model = dict(
    backbone=dict(
        depth=18, stem_channels=8, base_channels=8, frozen_stages=-1, norm_eval=False,
        zero_init_residual=False, init_cfg={{_base_.demo_start}}),
    neck=dict(
        in_channels=[8, 16, 32, 64], out_channels=24, num_outs=4, norm_cfg={{_base_.demo_norm}}),
    rpn_head=dict(
        in_channels=24, feat_channels=24, anchor_generator={{_base_.demo_anchors}}),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=24, finest_scale=16),
        bbox_head=dict(in_channels=24, fc_out_channels=64, num_classes=10)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)), rpn_proposal={{_base_.demo_proposals}},
        rcnn=dict(sampler=dict(num=32))),
    test_cfg={{_base_.demo_test_cfg}})
