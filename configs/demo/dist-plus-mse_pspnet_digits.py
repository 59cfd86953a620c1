# DIST+ with the squared error of the features (Table 14).
_base_ = 'dist_pspnet_digits.py'
model = dict(distill=[{{_base_.entries.dist}}, {{_base_.entries.mimic}}], acclimation=dict())
