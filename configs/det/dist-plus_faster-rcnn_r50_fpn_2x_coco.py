# DIST+: relations of logits and features, and teacher acclimation.
_base_ = 'dist_faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.features}}], acclimation=dict())
