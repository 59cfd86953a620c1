# DIST: the relations of the class probabilities.
_base_ = ['deeplabv3_digits-student.py', '../_base_/distill_segmentor.py']
model = dict(
    _delete_=True,
    type='SegmentorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/deeplabv3_digits-teacher.py',
        checkpoint='work_dirs/demo/deeplabv3_digits-teacher/seed-0/iter_1200.pth'),
    distill=[{{_base_.entries.dist}}])
