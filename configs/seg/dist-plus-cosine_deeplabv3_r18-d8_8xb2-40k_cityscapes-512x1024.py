# DIST+ with the cosine similarity of the features (Table 14).
_base_ = 'dist_deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py'
model = dict(
    distill=[
        {{_base_.entries.dist}},
        {{_base_.entries.dist_aux}},
        {{_base_.entries.cosine}}],
    acclimation=dict())
