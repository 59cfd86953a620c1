# DIST + mimic: DIST, and the squared error of the features.
_base_ = 'dist_deeplabv3_r18-d8_1xb16-40k_camvid-360x360.py'
model = dict(
    distill=[
        {{_base_.entries.dist}},
        {{_base_.entries.dist_aux}},
        {{_base_.entries.mimic}}])
