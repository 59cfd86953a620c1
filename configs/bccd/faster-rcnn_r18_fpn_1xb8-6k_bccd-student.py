# The Faster R-CNN student alone: ResNet-18.
_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', '../_base_/bccd_6k.py']
model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=3)))
