# The teacher: DeepLabV3 on ResNet-101.
_base_ = ['mmseg::_base_/models/deeplabv3_r50-d8.py', '../_base_/camvid_40k.py']
model = dict(
    pretrained='open-mmlab://resnet101_v1c',
    data_preprocessor=dict(size=(360, 360)),
    backbone=dict(depth=101),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11))
