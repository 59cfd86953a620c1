# DIST: the relations of the class probabilities, RetinaNet -> RetinaNet.
_base_ = ['retinanet_bccd-small-student.py', '../_base_/distill_retinanet.py']
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/retinanet_bccd-small-teacher.py',
        checkpoint='work_dirs/bccd/retinanet_bccd-small-teacher/seed-0/iter_1500.pth'),
    distill=[{{_base_.entries.dist}}])
