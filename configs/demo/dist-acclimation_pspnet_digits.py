# DIST and teacher acclimation (Table 13).
_base_ = 'dist_pspnet_digits.py'
model = dict(distill=[{{_base_.entries.dist}}], acclimation=dict())
