# DIST+: relations of logits and features, and teacher acclimation.
_base_ = 'faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill='dist-plus')
