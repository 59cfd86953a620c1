# DIST+: relations of logits and features, and teacher acclimation.
_base_ = 'dist_retinanet_bccd-small.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.features}}], acclimation=dict())
