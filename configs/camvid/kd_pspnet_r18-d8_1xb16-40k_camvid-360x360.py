# KD: the divergence of the class probabilities.
_base_ = 'dist_pspnet_r18-d8_1xb16-40k_camvid-360x360.py'
model = dict(distill=[{{_base_.entries.kd}}, {{_base_.entries.kd_aux}}])
