# The RetinaNet teacher: 24 base channels, a deeper head, a longer schedule.
_base_ = [
    '../_base_/retinanet_demo.py', '../_base_/bccd_small.py',
    '../_base_/schedule_small_teacher.py']
model = dict(
    backbone=dict(stem_channels=24, base_channels=24),
    neck=dict(in_channels=[48, 96, 192], out_channels=64),
    bbox_head=dict(
        num_classes=3, in_channels=64, feat_channels=64, stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2)),
    test_cfg=dict(nms_pre=300, max_per_img=100))
