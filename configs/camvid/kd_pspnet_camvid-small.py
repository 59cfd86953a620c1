# KD: the divergence of the class probabilities.
_base_ = 'dist_pspnet_camvid-small.py'
model = dict(distill=[{{_base_.entries.kd}}])
