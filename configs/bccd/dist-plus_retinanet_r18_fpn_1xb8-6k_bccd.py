# DIST+: relations of logits and features, and teacher acclimation.
_base_ = 'dist_retinanet_r18_fpn_1xb8-6k_bccd.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.features}}], acclimation=dict())
