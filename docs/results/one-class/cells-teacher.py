_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
data = dict(
    data_root='data/rbc/', metainfo=dict(classes=('RBC',)), data_prefix=dict(img='images/'))
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(ann_file='annotations/train.json', pipeline=train_pipeline, **data))
val_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(ann_file='annotations/val.json', pipeline=test_pipeline, **data))
test_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(ann_file='annotations/test.json', pipeline=test_pipeline, **data))
val_evaluator = dict(ann_file='data/rbc/annotations/val.json')
test_evaluator = dict(ann_file='data/rbc/annotations/test.json')

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        stem_channels=24, base_channels=24, frozen_stages=-1, norm_eval=False,
        init_cfg=None, zero_init_residual=False),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=64, num_outs=4, norm_cfg=norm_cfg),
    bbox_head=dict(
        num_classes=1, in_channels=64, feat_channels=64, stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        anchor_generator=dict(strides=[8, 16, 32, 64])))
train_cfg = dict(max_epochs=24, val_interval=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', clip_grad=dict(max_norm=10),
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4))
default_hooks = dict(checkpoint=dict(interval=24))
