# The PSPNet student alone: ResNet-18 with 8 base channels.
_base_ = [
    '../_base_/segmentor_demo.py', '../_base_/camvid_small.py', '../_base_/schedule_small.py']
model = dict(
    data_preprocessor=dict(size=(144, 192)),
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(type='PSPHead', in_channels=64, channels=32, pool_scales=(1, 2, 3, 6)))
