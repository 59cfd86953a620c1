# The FPN student alone: EfficientNet-Lite0 up to stride 16, with ImageNet weights.
_base_ = 'fpn-r18_camvid-small-student.py'
custom_imports = dict(
    imports=['kd_plugin', 'kd_plugin.analysis.class_iou',
             'kd_plugin.experiments.efficientnet_lite'])
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True, type='EfficientNetLite', arch='lite0', out_indices=(0, 1, 2),
        pretrained=True),
    neck=dict(in_channels=[24, 40, 112], out_channels=24, num_outs=3),
    decode_head=dict(
        in_channels=[24] * 3, in_index=[0, 1, 2], feature_strides=[4, 8, 16], channels=16))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
