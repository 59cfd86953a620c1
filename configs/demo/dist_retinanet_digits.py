# DIST: the relations of the class logits, all anchors of a pixel in one row (as published).
_base_ = 'retinanet_digits-student.py'
model = dict(
    _delete_=True,
    type='DetectorDistiller',
    student={{_base_.model}},
    teacher=dict(
        config='{{fileDirname}}/retinanet_digits-teacher.py',
        checkpoint='work_dirs/demo/retinanet_digits-teacher/seed-0/iter_1200.pth'),
    distill=[
        dict(name='dist', student='bbox_head.retina_cls', teacher='bbox_head.retina_cls',
             loss=dict(type='DISTLoss', activation='sigmoid')),
    ])
