# KD: the divergence of the class probabilities.
_base_ = 'dist_pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py'
model = dict(distill=[{{_base_.entries.kd}}, {{_base_.entries.kd_aux}}])
