# DeepLabV3 teaches PSPNet, for CPU cores.
_base_ = 'pspnet_camvid-small-student.py'
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/deeplabv3_camvid-small-teacher.py',
        checkpoint='work_dirs/camvid/deeplabv3_camvid-small-teacher/seed-0/iter_1500.pth'),
    distill='dist-plus')
