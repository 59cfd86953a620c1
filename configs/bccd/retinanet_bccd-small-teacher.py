# The RetinaNet teacher: 24 base channels, a deeper head, a longer schedule.
_base_ = [
    '../_base_/retinanet_small.py', '../_base_/bccd_small.py',
    '../_base_/schedule_small_teacher.py']
model = dict(
    backbone=dict(stem_channels=24, base_channels=24),
    neck=dict(in_channels=[48, 96, 192], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64, stacked_convs=2))
