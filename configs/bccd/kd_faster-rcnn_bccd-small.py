# KD: the divergence of the class probabilities.
_base_ = 'dist_faster-rcnn_bccd-small.py'
model = dict(distill=[{{_base_.entries.kd}}])
