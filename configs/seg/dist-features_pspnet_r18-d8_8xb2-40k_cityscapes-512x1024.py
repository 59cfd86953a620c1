# DIST+ without teacher acclimation (Table 13).
_base_ = 'dist_pspnet_r18-d8_8xb2-40k_cityscapes-512x1024.py'
model = dict(
    distill=[
        {{_base_.entries.dist}},
        {{_base_.entries.dist_aux}},
        {{_base_.entries.features}}])
