# Cascade Mask R-CNN teaches Faster R-CNN.
_base_ = 'faster-rcnn_digits-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/cascade-mask-rcnn_digits-teacher.py',
        checkpoint='work_dirs/demo/cascade-mask-rcnn_digits-teacher/seed-0/iter_1200.pth'),
    distill='dist-plus')
