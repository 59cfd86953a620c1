# DIST+ with the cosine similarity of the features (Table 14).
_base_ = 'faster-rcnn_r50_fpn_2x_coco.py'
model = dict(distill='dist-plus-cosine')
