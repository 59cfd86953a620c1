# The DeepLabV3 student alone: ResNet-18.
_base_ = ['mmseg::_base_/models/deeplabv3_r50-d8.py', '../_base_/camvid_40k.py']
model = dict(
    pretrained='open-mmlab://resnet18_v1c',
    data_preprocessor=dict(size=(360, 360)),
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=11))
