# DIST: the relations of the class probabilities.
_base_ = ['faster-rcnn_digits-student.py', '../_base_/distill_two-stage.py']
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/cascade-mask-rcnn_digits-teacher.py',
        checkpoint='work_dirs/demo/cascade-mask-rcnn_digits-teacher/seed-0/iter_1200.pth'),
    distill=[{{_base_.entries.dist}}])
