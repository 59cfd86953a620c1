# DIST+: relations of logits and features, and teacher acclimation.
_base_ = 'retinanet_r50_fpn_2x_coco.py'
model = dict(distill='dist-plus')
