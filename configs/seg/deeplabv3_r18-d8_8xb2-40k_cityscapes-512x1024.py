# DeepLabV3-R101 teaches DeepLabV3-R18.
_base_ = [
    '../_base_/kd_plugin.py',
    'mmseg::deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/cityscapes_40k.py']
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher={{_base_.authors.teacher}},
    distill='dist-plus')
train_dataloader = dict(batch_size=2)  # on each of 8 GPUs
train_cfg = {{_base_.authors.train_cfg}}
optim_wrapper = {{_base_.authors.optim_wrapper}}
param_scheduler = {{_base_.authors.param_scheduler}}
