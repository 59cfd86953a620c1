# DIST+ without teacher acclimation (Table 13).
_base_ = 'faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill='dist-features')
