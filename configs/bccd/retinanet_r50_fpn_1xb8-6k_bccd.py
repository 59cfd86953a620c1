# The RetinaNet teacher: ResNet-50.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', '../_base_/bccd_6k.py']
model = dict(bbox_head=dict(num_classes=3))
optim_wrapper = dict(optimizer=dict(lr=0.005))
