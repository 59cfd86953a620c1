# What the demo's two-stage detectors share: a start from scratch, four levels from stride 4, and
# fewer, smaller boxes than COCO needs. Laid over mmdet's own models.
demo_norm = dict(type='BN', requires_grad=True)
# PyTorch's own start, in place of ImageNet weights: see retinanet_demo.py.
demo_start = dict(
    _delete_=True, type='Kaiming', layer='Conv2d', a=5**0.5, distribution='uniform',
    mode='fan_in', nonlinearity='leaky_relu')
demo_anchors = dict(scales=[4], strides=[4, 8, 16, 32])
demo_proposals = dict(nms_pre=100, max_per_img=50)
demo_test_cfg = dict(rpn=demo_proposals, rcnn=dict(max_per_img=20))
