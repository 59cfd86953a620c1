# DIST: the relations of the class probabilities.
_base_ = 'pspnet_r18-d8_1xb16-40k_camvid-360x360.py'
model = dict(distill='dist')
