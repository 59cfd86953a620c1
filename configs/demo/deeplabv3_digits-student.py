# The DeepLabV3 student alone: ResNet-18 with 12 base channels.
_base_ = [
    '../_base_/segmentor_demo.py', '../_base_/digit_scenes_seg.py', '../_base_/schedule_demo.py']
model = dict(
    backbone=dict(stem_channels=12, base_channels=12),
    decode_head=dict(type='ASPPHead', in_channels=96, channels=48, dilations=(1, 2, 3)))
