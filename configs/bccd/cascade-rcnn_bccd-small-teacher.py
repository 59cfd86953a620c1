# The two-stage teacher: Cascade R-CNN with 24 base channels.
_base_ = [
    'mmdet::_base_/models/cascade-rcnn_r50_fpn.py', '../_base_/two_stage_small.py',
    '../_base_/bccd_small.py', '../_base_/schedule_small_teacher.py']
model = dict(
    backbone=dict(
        depth=18, stem_channels=24, base_channels=24, out_indices=(1, 2, 3), frozen_stages=-1,
        norm_eval=False, zero_init_residual=False, init_cfg={{_base_.demo_start}}),
    neck=dict(
        in_channels=[48, 96, 192], out_channels=32, num_outs=3, norm_cfg={{_base_.demo_norm}}),
    rpn_head=dict(
        in_channels=32, feat_channels=32, anchor_generator={{_base_.demo_anchors}}),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=32, featmap_strides=[8, 16, 32], finest_scale=32),
        bbox_head=[
            dict(head, in_channels=32, fc_out_channels=128, num_classes=3)
            for head in _base_.model.roi_head.bbox_head]),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)), rpn_proposal={{_base_.demo_proposals}},
        rcnn=[
            dict(stage, sampler=dict(stage.sampler, num=64))
            for stage in _base_.model.train_cfg.rcnn]),
    test_cfg={{_base_.demo_test_cfg}})
