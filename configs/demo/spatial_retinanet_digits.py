# The spatial relation of the features alone (Table 13).
_base_ = 'dist_retinanet_digits.py'
model = dict(distill=[{{_base_.entries.spatial}}])
