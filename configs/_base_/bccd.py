# BCCD (blood cells) as tools/dataset_converters/voc.py writes it: 640x480, 205 images for training,
# 87 for validation, 72 for the test. The order of the classes is that of the annotation files.
custom_imports = dict(imports=['kd_plugin'], allow_failed_imports=False)
dataset_type = 'CocoDataset'
data_root = 'data/bccd'
metainfo = dict(
    classes=('Platelets', 'RBC', 'WBC'), palette=[(240, 200, 40), (230, 60, 60), (60, 90, 220)])
dataset = dict(
    type=dataset_type, data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images'))
train_dataloader = dict(
    batch_size=8, num_workers=4, persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/train.json', filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(640, 480), keep_ratio=True),
            dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
            dict(type='PhotoMetricDistortion', contrast_range=(0.8, 1.2)),
            dict(type='PackDetInputs'),
        ], **dataset))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(640, 480), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
val_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/val.json', test_mode=True, pipeline=test_pipeline, **dataset))
test_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/test.json', test_mode=True, pipeline=test_pipeline, **dataset))
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + '/annotations/val.json', metric='bbox',
    classwise=True)
test_evaluator = dict(
    type='CocoMetric', ann_file=data_root + '/annotations/test.json', metric='bbox',
    classwise=True)
