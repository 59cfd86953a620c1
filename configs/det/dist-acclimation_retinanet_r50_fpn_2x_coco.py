# DIST and teacher acclimation (Table 13).
_base_ = 'dist_retinanet_r50_fpn_2x_coco.py'
model = dict(distill=[{{_base_.entries.dist}}], acclimation=dict())
