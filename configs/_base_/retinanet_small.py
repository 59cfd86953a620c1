# RetinaNet for BCCD at 256x192: the demo's, with anchors of 16 to 90 pixels.
_base_ = 'retinanet_demo.py'
model = dict(
    bbox_head=dict(num_classes=3, anchor_generator=dict(octave_base_scale=2)),
    test_cfg=dict(nms_pre=300, max_per_img=100))
