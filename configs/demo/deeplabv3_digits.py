# DeepLabV3 teaches a narrower DeepLabV3.
_base_ = 'deeplabv3_digits-student.py'
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/deeplabv3_digits-teacher.py',
        checkpoint='work_dirs/demo/deeplabv3_digits-teacher/seed-0/iter_1200.pth'),
    distill='dist-plus')
