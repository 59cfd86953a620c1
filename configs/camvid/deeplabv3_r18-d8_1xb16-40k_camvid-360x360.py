# DeepLabV3-R101 teaches DeepLabV3-R18.
_base_ = 'deeplabv3_r18-d8_1xb16-40k_camvid-360x360-student.py'
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/deeplabv3_r101-d8_1xb16-40k_camvid-360x360.py',
        checkpoint='work_dirs/camvid/deeplabv3_r101-d8_1xb16-40k_camvid-360x360/seed-0/iter_40000.pth'),
    distill='dist-plus')
