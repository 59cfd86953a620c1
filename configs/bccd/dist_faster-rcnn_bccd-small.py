# DIST: the relations of the class probabilities, Cascade R-CNN -> Faster R-CNN.
_base_ = ['faster-rcnn_bccd-small-student.py', '../_base_/distill_two-stage.py']
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/cascade-rcnn_bccd-small-teacher.py',
        checkpoint='work_dirs/bccd/cascade-rcnn_bccd-small-teacher/seed-0/iter_1500.pth'),
    distill=[{{_base_.entries.dist}}])
