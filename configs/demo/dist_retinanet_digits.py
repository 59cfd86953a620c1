# DIST: the relations of the class probabilities.
_base_ = ['retinanet_digits-student.py', '../_base_/distill_retinanet.py']
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/retinanet_digits-teacher.py',
        checkpoint='work_dirs/demo/retinanet_digits-teacher/seed-0/iter_1200.pth'),
    distill=[{{_base_.entries.dist}}])
