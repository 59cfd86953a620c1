# FPN on EfficientNet-Lite2 teaches FPN on a narrow ResNet-18, for CPU cores.
_base_ = 'fpn-r18_camvid-small-student.py'
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/fpn-lite2_camvid-small-teacher.py',
        checkpoint='work_dirs/camvid/fpn-lite2_camvid-small-teacher/seed-0/iter_1200.pth'),
    distill='dist-plus')
