# What the two-stage detectors for BCCD at 256x192 share: the demo's start from scratch, and three
# levels from stride 8, whose anchors of 20, 40 and 80 pixels suit the three kinds of cells.
_base_ = 'two_stage_demo.py'
demo_anchors = dict(scales=[2.5], strides=[8, 16, 32])
demo_proposals = dict(nms_pre=200, max_per_img=100)
demo_test_cfg = dict(rpn=demo_proposals, rcnn=dict(max_per_img=100))
