# DIST + mimic: DIST, and the squared error of the features.
_base_ = 'faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill='dist-mimic')
