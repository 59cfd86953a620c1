# DIST: the relations of the class probabilities.
_base_ = 'retinanet_r50_fpn_2x_coco.py'
model = dict(distill='dist')
