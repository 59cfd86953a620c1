# DIST+ with the cosine similarity of the features (Table 14).
_base_ = 'dist_faster-rcnn_digits.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.cosine}}], acclimation=dict())
