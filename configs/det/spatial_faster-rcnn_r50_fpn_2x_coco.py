# The spatial relation of the features alone (Table 13).
_base_ = 'faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill='spatial')
