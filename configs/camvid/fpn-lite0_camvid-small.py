# FPN on EfficientNet-Lite2 teaches FPN on EfficientNet-Lite0, both from ImageNet, for CPU cores.
_base_ = 'fpn-lite0_camvid-small-student.py'
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/fpn-lite2_camvid-small-teacher.py',
        checkpoint='work_dirs/camvid/fpn-lite2_camvid-small-teacher/seed-0/iter_1200.pth'),
    distill='dist-plus')
