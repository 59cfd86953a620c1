# DIST+ with the squared error of the features (Table 14).
_base_ = 'faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill='dist-plus-mse')
