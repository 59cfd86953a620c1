# DigitScenes for segmentation: stock dataset, 64x64 scenes, background and ten digits.
custom_imports = dict(
    imports=['kd_plugin', 'kd_plugin.data.first_use', 'kd_plugin.analysis.class_iou'],
    allow_failed_imports=False)
default_scope = 'mmseg'
dataset_type = 'BaseSegDataset'
data_root = 'data/digit_scenes'
metainfo = dict(
    classes=('background', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),
    palette=[[0, 0, 0], [230, 60, 60], [245, 150, 40], [240, 225, 60], [140, 210, 60],
             [40, 160, 80], [60, 210, 210], [60, 120, 230], [130, 80, 220], [220, 90, 200],
             [170, 120, 80]])
dataset = dict(
    type=dataset_type, data_root=data_root, metainfo=metainfo,
    img_suffix='.png', seg_map_suffix='.png')
train_dataloader = dict(
    batch_size=16, num_workers=0, persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PhotoMetricDistortion', contrast_range=(0.8, 1.2)),
            dict(type='PackSegInputs'),
        ], **dataset))
# mmseg's inference functions look for this name.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
val_dataloader = dict(
    batch_size=20, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='ClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
