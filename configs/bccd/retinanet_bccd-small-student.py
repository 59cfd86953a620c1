# The RetinaNet student alone: 8 base channels, anchors of 16 to 90 pixels. Batches of 4, as it is trained
# on few of the images.
_base_ = ['../_base_/retinanet_demo.py', '../_base_/bccd_small.py', '../_base_/schedule_demo.py']
train_dataloader = dict(batch_size=4)
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=24),
    bbox_head=dict(
        num_classes=3, in_channels=24, feat_channels=24,
        anchor_generator=dict(octave_base_scale=2)),
    test_cfg=dict(nms_pre=300, max_per_img=100))
