# The segmentation teacher: DeepLabV3 on ResNet-18 with 24 base channels.
_base_ = [
    '../_base_/segmentor_demo.py', '../_base_/digit_scenes_seg.py',
    '../_base_/schedule_demo_teacher.py']
model = dict(
    backbone=dict(stem_channels=24, base_channels=24),
    decode_head=dict(type='ASPPHead', in_channels=192, channels=96, dilations=(1, 2, 3)))
