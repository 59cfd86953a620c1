# KD: the divergence of the class probabilities.
_base_ = 'dist_faster-rcnn_r18_fpn_1xb8-6k_bccd.py'
model = dict(distill=[{{_base_.entries.kd}}])
