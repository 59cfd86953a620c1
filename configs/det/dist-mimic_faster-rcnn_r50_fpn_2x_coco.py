# DIST + mimic: DIST, and the squared error of the features.
_base_ = 'dist_faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.mimic}}])
