# The two-stage teacher: Cascade R-CNN on ResNet-50.
_base_ = ['mmdet::_base_/models/cascade-rcnn_r50_fpn.py', '../_base_/bccd_6k.py']
model = dict(
    roi_head=dict(
        bbox_head=[dict(head, num_classes=3) for head in _base_.model.roi_head.bbox_head]))
