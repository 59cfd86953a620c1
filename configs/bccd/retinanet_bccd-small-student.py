# The RetinaNet student alone: 8 base channels.
_base_ = [
    '../_base_/retinanet_small.py', '../_base_/bccd_small.py', '../_base_/schedule_small.py']
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=24),
    bbox_head=dict(in_channels=24, feat_channels=24))
