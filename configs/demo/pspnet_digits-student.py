# The segmentation student alone: PSPNet on ResNet-18 with 12 base channels.
_base_ = [
    '../_base_/segmentor_demo.py', '../_base_/digit_scenes_seg.py', '../_base_/schedule_demo.py']
model = dict(
    backbone=dict(stem_channels=12, base_channels=12),
    decode_head=dict(type='PSPHead', in_channels=96, channels=48, pool_scales=(1, 2, 4)))
