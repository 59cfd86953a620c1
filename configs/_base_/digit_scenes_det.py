# DigitScenes for detection: stock CocoDataset, 64x64 scenes, ten digits.
custom_imports = dict(
    imports=['kd_plugin', 'kd_plugin.data.first_use'], allow_failed_imports=False)
default_scope = 'mmdet'
dataset_type = 'CocoDataset'
data_root = 'data/digit_scenes'
metainfo = dict(classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))
dataset = dict(type=dataset_type, data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=16, num_workers=0, persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/train.json', data_prefix=dict(img='images/train'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PhotoMetricDistortion', contrast_range=(0.8, 1.2)),
            dict(type='PackDetInputs'),
        ], **dataset))
val_dataloader = dict(
    batch_size=20, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/val.json', data_prefix=dict(img='images/val'), test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs',
                 meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
        ], **dataset))
# One resize would be the identity, but mmdet's test pipeline wants a scale factor.
val_dataloader['dataset']['pipeline'].insert(
    1, dict(type='Resize', scale=(64, 64), keep_ratio=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + '/annotations/val.json', metric='bbox',
    classwise=True)
test_evaluator = val_evaluator
visualizer = dict(
    type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
