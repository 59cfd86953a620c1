# The RetinaNet teacher: 24 base channels, a deeper head, a longer schedule.
_base_ = [
    '../_base_/retinanet_demo.py', '../_base_/digit_scenes_det.py',
    '../_base_/schedule_demo_teacher.py']
model = dict(
    backbone=dict(stem_channels=24, base_channels=24),
    neck=dict(in_channels=[48, 96, 192], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64, stacked_convs=2))
