# The segmentation teacher: DeepLabV3 on ResNet-18 with 24 base channels.
_base_ = [
    '../_base_/segmentor_demo.py', '../_base_/camvid_small.py',
    '../_base_/schedule_small_teacher.py']
model = dict(
    data_preprocessor=dict(size=(144, 192)),
    backbone=dict(stem_channels=24, base_channels=24),
    decode_head=dict(type='ASPPHead', in_channels=192, channels=96, dilations=(1, 2, 4)))
