# DIST+ without teacher acclimation (Table 13).
_base_ = 'dist_retinanet_bccd-small.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.features}}])
