# DIST: the relations of the class probabilities.
_base_ = 'deeplabv3_r18-d8_8xb2-40k_cityscapes-512x1024.py'
model = dict(distill='dist')
