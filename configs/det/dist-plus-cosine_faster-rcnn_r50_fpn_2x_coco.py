# DIST+ with the cosine similarity of the features (Table 14).
_base_ = 'dist_faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.cosine}}], acclimation=dict())
