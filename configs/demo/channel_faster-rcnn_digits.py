# The channel relation of the features alone (Table 13).
_base_ = 'dist_faster-rcnn_digits.py'
model = dict(distill=[{{_base_.entries.channel}}])
