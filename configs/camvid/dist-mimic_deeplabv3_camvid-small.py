# DIST + mimic: DIST, and the squared error of the features.
_base_ = 'dist_deeplabv3_camvid-small.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.mimic}}])
