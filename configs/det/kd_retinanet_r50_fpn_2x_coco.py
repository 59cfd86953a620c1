# KD: the divergence of the class probabilities.
_base_ = 'retinanet_r50_fpn_2x_coco.py'
model = dict(distill='kd')
