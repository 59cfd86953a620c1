"""Wrong configs, one a row: each is refused when the model is built, with what to write instead.

A row is a small pair of ``pairs.py``, the key that is wrong, what is written there, and what is
answered (``...`` stands for anything between). Wrong command lines: tools/test_wrong_lines.py.
"""

import copy
import re

import pairs
import pytest
import torch
from mmengine.registry import MODELS


class ABSENT:
    """The key is left out."""


R, F, P = 'retinanet', 'faster_rcnn', 'pspnet'
NAN, INF = float('nan'), float('inf')
NECK = dict(name='a', student='neck', teacher='neck', loss=dict(type='PKDLoss'))


def loss(kind, **options):
    return dict(type=kind, **options)


def sides(student, teacher):
    return dict(student=student, teacher=teacher)


WRONG = [
    # Paths, and modules that are not there.
    (R, 'distill.0.student', 'bbox_head.retina_cl', "'dist': student RetinaNet has no module 'bbox_head.retina_cl'; the closest are: bbox_head.retina_cls"),
    (R, 'distill.0.teacher', 'bbox_head.nothing', "'dist': teacher RetinaNet has no module 'bbox_head.nothing'; the closest are: ... bbox_head.retina_cls"),
    (R, 'distill.1.student', 'Neck', "no module 'Neck'; the closest are: neck"),
    (R, 'distill.1.student', 'student.neck', "no module 'student.neck'; the closest are: neck"),
    (R, 'distill.1.teacher', 'teacher.neck', "no module 'teacher.neck'; the closest are: neck"),
    (R, 'distill.1.student', '', "'features': student=''; write the path of a module, such as 'neck'"),
    (R, 'distill.1.student', ['neck'], "student=['neck']; write the path of a module"),
    (R, 'distill.1.teacher', None, 'teacher=None; write the path of a module'),
    (R, 'distill.1.student', 'neck.fpn_convs.9', "no module 'neck.fpn_convs.9'; the closest are: neck.fpn_convs.4"),
    (R, 'distill.0.student', 'roi_head.bbox_head.fc_cls', "RetinaNet has no module 'roi_head.bbox_head.fc_cls'; the closest are: ... bbox_head.retina_cls"),
    (F, 'distill.0.student', 'roi_head.mask_head.conv_logits', 'no module ... the closest are: roi_head.bbox_head.fc_cls'),
    (F, 'distill.0.teacher', 'roi_head.bbox_head.fc_cls', "CascadeRCNN has no module ... roi_head.bbox_head.0.fc_cls"),
    (F, 'distill.0.teacher', 'roi_head.bbox_head.7.fc_cls', 'no module ... roi_head.bbox_head.0.fc_cls'),
    (F, 'distill.0.teacher', 'roi_head.bbox_head', "names no cascade stage; write 'roi_head.bbox_head.0…'"),
    (F, 'distill.0.student', 'roi_head', 'are not both in a RoI head ... tap both inside or both outside'),
    (F, 'distill.1.teacher', 'roi_head.bbox_head.0.fc_cls', 'are not both in a RoI head ... tap both inside or both outside'),
    (P, 'distill.0.student', 'decode_head.conv_se', 'the closest are: decode_head.conv_seg'),
    (P, 'distill.1.student', 'neck', "no module 'neck'; the closest are: ... backbone"),
    (P, 'distill.2.teacher', 'auxiliary_head.1.conv_seg', 'the closest are: auxiliary_head.conv_seg'),
    (P, 'distill.1.student', 'backbone.layer5', 'the closest are: backbone.layer4'),
    # Taps that are never called, called more than once, or give nothing that compares.
    (R, 'distill.0.student', 'data_preprocessor', 'was not called in this forward pass; tap a module that its forward pass runs'),
    (P, 'distill.0.teacher', 'auxiliary_head.loss_decode', 'was not called in this forward pass; tap a module'),
    (R, 'distill.0.student', 'bbox_head.loss_cls', "student 'bbox_head.loss_cls' gives [[], ... tap a layer, not a loss"),
    (R, 'distill.1.student', 'backbone.layer4.0.relu', '2 and 5 levels; tap modules with as many'),
    (R, 'distill.1.student', 'bbox_head', '10 and 5 levels; tap modules with as many'),
    (R, 'distill.1.student', 'backbone.layer4', '1 and 5 levels; tap modules with as many'),
    (R, 'distill.1.student', 'backbone', '4 and 5 levels; tap modules with as many'),
    (R, 'distill.1.student', 'backbone.bn1', 'is changed in place after it is read ... tap the module that comes next'),
    (F, 'distill.0.student', 'roi_head.bbox_head.shared_fcs.0', 'is changed in place ... tap the module that comes next'),
    (R, 'distill.1.student', 'backbone.layer1', "no gradient reaches the student from 'backbone.layer1' ... tap a later module"),
    (P, 'distill.0.student', 'decode_head.dropout', 'gives 8 columns, and PSPHead has 11 classes ... tap its classification layer'),
    (F, 'distill.0.student', 'rpn_head.rpn_cls', 'are not both in a RoI head ... tap both inside'),
    (F, 'distill.0.student', 'roi_head.bbox_head.fc_reg', 'gives 40 columns ... tap its classification layer'),
    (R, 'distill.0.teacher', 'bbox_head.retina_reg', "teacher 'bbox_head.retina_reg' gives 36 columns ... tap its classification layer"),
    # Losses on the wrong kind of tap.
    (R, 'distill.1.loss.type', 'DISTLoss', "DISTLoss relates the columns of class logits, and student='neck' gives features; tap a classification layer ... FeatureRelationLoss"),
    (R, 'distill.1.loss', loss('VRMLoss', cross_view=False), "student='neck' gives features; tap a classification layer"),
    (F, 'distill.0.teacher', 'neck', "teacher='neck' gives features; tap a classification layer"),
    (F, 'distill.0.loss', loss('FeatureRelationLoss'), 'gives [64, 11] ... must be maps [N, D, H, W]'),
    (F, 'distill.0.loss', loss('MGDLoss'), 'gives [64, 11] ... must be maps [N, D, H, W]'),
    (F, 'distill.0.loss', loss('PKDLoss'), 'gives [64, 11] ... must be maps [N, D, H, W]'),
    (F, 'distill.0.loss', loss('ChannelWiseLoss'), 'gives [64, 11] ... must be maps [N, D, H, W]'),
    (F, 'distill.0.loss', loss('FGDLoss'), "is in a RoI head; tap 'neck' or 'backbone'"),
    (P, 'distill.1.loss', loss('FGDLoss'), "'features': FGDLoss needs the boxes of objects, and the data of a segmentor have none; write another loss"),
    (R, 'distill.0.loss', loss('VRMLoss'), 'VRMLoss relates two views ... write views=dict() beside distill, or cross_view=False'),
    (R, 'distill.0.loss', loss('AcclimationLoss'), 'AcclimationLoss teaches the teacher ... write acclimation=dict() beside distill'),
    (R, 'distill.1.loss', loss('mmdet.IoULoss'), "'features': ... IoULoss cannot be taken between them ... write a loss whose forward takes the student's and the teacher's tensor"),
    # Losses that are none, and their options.
    (R, 'distill.0.loss', 'DISTLoss', "'dist': loss='DISTLoss' cannot be built ... write dict(type='DISTLoss', …)"),
    (R, 'distill.0.loss', None, "loss=None cannot be built ... write dict(type='DISTLoss', …)"),
    (R, 'distill.0.loss', [loss('DISTLoss')], "cannot be built ... write dict(type='DISTLoss', …)"),
    (R, 'distill.0.loss', dict(loss_weight=1), "loss.type=None is no registered loss; write one of ['AcclimationLoss'"),
    (R, 'distill.0.loss.type', 'DISTLos', "'dist': loss.type='DISTLos' is no registered loss; write 'DISTLoss'"),
    (R, 'distill.0.loss.type', 'DistLoss', "loss.type='DistLoss' is no registered loss; write 'DISTLoss'"),
    (R, 'distill.1.loss.type', 'FeatureRelation', "loss.type='FeatureRelation' is no registered loss; write 'FeatureRelationLoss'"),
    (R, 'distill.0.loss.type', 3, 'loss.type=3 is no registered loss; write one of'),
    (R, 'distill.0.loss.temperature', 2, "'dist': loss (DISTLoss) takes ['inter_weight', 'intra_weight', 'tau', ... unknown: ['temperature']"),
    (R, 'distill.0.loss.weight', 2, "unknown: ['weight'] (write 'loss_weight')"),
    (R, 'distill.0.loss.interweight', 2, "unknown: ['interweight'] (write 'inter_weight')"),
    (R, 'distill.0.loss.mask_ratio', 0.5, "loss (DISTLoss) takes ... unknown: ['mask_ratio']"),
    (R, 'distill.1.loss', loss('PKDLoss', tau=1), "loss (PKDLoss) takes ['loss_weight']; unknown: ['tau']"),
    (R, 'distill.0.loss.tau', 0, "'dist': loss (DISTLoss): tau=0; write a number above 0"),
    (R, 'distill.0.loss.tau', '4', "tau='4'; write a number above 0"),
    (R, 'distill.0.loss.tau', None, 'tau=None; write a number above 0'),
    (R, 'distill.0.loss.tau', NAN, 'tau=nan; write a number above 0'),
    (R, 'distill.0.loss.tau', INF, 'tau=inf; write a number above 0'),
    (R, 'distill.0.loss.loss_weight', -1, 'loss_weight=-1; write a number, 0 or more'),
    (R, 'distill.0.loss.loss_weight', 'big', "loss_weight='big'; write a number, 0 or more"),
    (R, 'distill.0.loss.loss_weight', None, 'loss_weight=None; write a number, 0 or more'),
    (R, 'distill.0.loss.loss_weight', NAN, 'loss_weight=nan; write a number, 0 or more'),
    (R, 'distill.0.loss.loss_weight', [1, 2], 'loss_weight=[1, 2]; write a number, 0 or more'),
    (R, 'distill.0.loss.inter_weight', -1, 'inter_weight=-1; write a number, 0 or more'),
    (R, 'distill.0.loss.intra_weight', 'x', "intra_weight='x'; write a number, 0 or more"),
    (R, 'distill.1.loss.loss_weight', -1, "'features': loss (FeatureRelationLoss): loss_weight=-1; write a number"),
    (R, 'distill.1.loss.channel_weight', 'x', "channel_weight='x'; write a number, 0 or more"),
    (R, 'distill.1.loss.spatial_weight', -2, 'spatial_weight=-2; write a number, 0 or more'),
    (R, 'distill.1.loss', loss('FeatureMimicLoss', loss_weight='1'), "loss_weight='1'; write a number"),
    (R, 'distill.1.loss', loss('PKDLoss', loss_weight=True), 'loss_weight=True; write a number'),
    (R, 'distill.1.loss', loss('FGDLoss', foreground_weight=-1), 'foreground_weight=-1; write a number'),
    (R, 'distill.1.loss', loss('FGDLoss', tau=0), 'loss (FGDLoss): tau=0; write a number above 0'),
    (R, 'distill.1.loss', loss('ChannelWiseLoss', tau='x'), "tau='x'; write a number above 0"),
    (R, 'distill.1.loss', loss('MGDLoss', mask_ratio=1), 'mask_ratio=1 masks everything; write a number from 0'),
    (R, 'distill.1.loss', loss('MGDLoss', mask_ratio='half'), "mask_ratio='half'; write a number from 0 to 1"),
    (R, 'distill.1.loss', loss('MGDLoss', masked='pixel'), "masked='pixel' is unknown; write 'pixels'"),
    (R, 'distill.0.loss', loss('VRMLoss', samples=1), 'samples=1; write a whole number, 2 or more'),
    (R, 'distill.0.loss', loss('VRMLoss', percentile=101), 'percentile=101; write a number from 0 to 100'),
    (R, 'distill.0.loss', loss('VRMLoss', distance='hubr'), "distance='hubr' is unknown; write 'huber'"),
    (R, 'distill.0.loss', loss('VRMLoss', inter_sample_weight=-1), 'inter_sample_weight=-1; write a number'),
    (R, 'distill.0.loss.relation', 'pearsn', "relation='pearsn' is unknown; write 'pearson', or another of"),
    (R, 'distill.0.loss.relation', ['pearson'], "relation=['pearson'] is unknown; write 'pearson'"),
    (R, 'distill.0.loss.activation', 'sigmod', "activation='sigmod' is unknown; write 'sigmoid'"),
    (R, 'distill.0.loss.num_classes', 7, '90 logit channels cannot be split into anchors of num_classes=7; write the number of classes'),
    (R, 'distill.0.loss.num_classes', '10', "num_classes='10'; write a whole number, 1 or more"),
    (R, 'distill.0.loss.num_classes', 0, 'num_classes=0; write a whole number, 1 or more'),
    (R, 'distill.0.loss.ignore_index', 'none', "ignore_index='none'; write the number of a class, or None"),
    (R, 'distill.0.loss.global_batch', 'yes', "global_batch='yes'; write True or False"),
    (F, 'distill.0.loss', loss('DISTLoss', global_batch=True, relation='kl'), "global_batch=True goes with relation='pearson' alone"),
    # Schedules.
    (R, 'distill.0.every', 0, "'dist': every=0; write a whole number, 1 or more"),
    (R, 'distill.0.every', 2.5, 'every=2.5; write a whole number, 1 or more'),
    (R, 'distill.0.evry', 2, "unknown: ['evry'] (write 'every')"),
    (R, 'distill.0.schedule', 'linear', "'dist': schedule='linear'; write (iteration, factor) pairs"),
    (R, 'distill.0.schedule', [], 'schedule=[]; write (iteration, factor) pairs'),
    (R, 'distill.0.schedule', 0.5, 'schedule=0.5; write (iteration, factor) pairs'),
    (R, 'distill.0.schedule', [(0,)], 'schedule=[(0,)]; write (iteration, factor) pairs'),
    (R, 'distill.0.schedule', [(500, 1), (0, 0)], 'iterations ascending'),
    (R, 'distill.0.schedule', [(0, -1)], 'iterations ascending and neither negative'),
    (R, 'distill.0.schedule', [(-5, 0), (5, 1)], 'iterations ascending and neither negative'),
    (R, 'distill.0.schedule', [(0, 'x')], "schedule=[(0, 'x')]; write (iteration, factor) pairs"),
    (R, 'distill.0.schedule', [('0', 1)], "schedule=[('0', 1)]; write (iteration, factor) pairs"),
    (R, 'distill.0.schedule', [(0, NAN)], 'schedule=[(0, nan)]; write (iteration, factor) pairs'),
    (R, 'distill.0.schedule', {0: 1}, 'schedule={0: 1}; write (iteration, factor) pairs'),
    # Names.
    (R, 'distill.1.name', 'dist', "names of their own, got ['dist', 'dist']; rename"),
    (R, 'distill.1.name', 'a.b', "name 'a.b' must be letters, digits and underscores; write name="),
    (R, 'distill.1.name', '', "name '' must be letters"),
    (R, 'distill.1.name', 3, 'name 3 must be letters'),
    (R, 'distill.1.name', ABSENT, "takes ['name', ... missing: ['name']"),
    (R, 'distill.0.name', 'cls', "a loss 'loss_cls' of its own; give the distill entry 'cls' another name"),
    (R, 'distill.0.name+acclimation', ('acclimation', {}), "give the distill entry 'acclimation' another name"),
    # Keys of entries, aligners, levels.
    (R, 'distill.1.alinger', 'conv1x1', "entry 'features' takes ... unknown: ['alinger'] (write 'aligner')"),
    (R, 'distill.1.techer', 'neck', "unknown: ['techer'] (write 'teacher')"),
    (R, 'distill.1.tau', 2, "entry 'features' takes ['name', 'student', ... unknown: ['tau']"),
    (R, 'distill.1.teacher', ABSENT, "entry 'features' takes ... missing: ['teacher']"),
    (R, 'distill.1.loss', ABSENT, "entry 'features' takes ... missing: ['loss']"),
    (R, 'distill.1.aligner', 'linear', "aligner='linear' is unknown; write one of None ... 'conv1x1'"),
    (R, 'distill.1.aligner', 'Conv1x1', "aligner='Conv1x1' is unknown; write 'conv1x1'"),
    (R, 'distill.1.aligner', loss('Conv1x1'), "aligner={'type': 'Conv1x1'} is unknown; write one of"),
    (R, 'distill.1.aligner', True, 'aligner=True is unknown; write one of'),
    (R, 'distill.1.aligner', None, "The channels differ: write aligner='conv1x1'"),
    (F, 'distill.0.aligner', 'conv1x1', "aligner='conv1x1' works on maps [N, D, H, W], got shape (64, 11)"),
    (R, 'distill.1.levels', [0], 'levels=[0]; write as many numbers for both, such as'),
    (R, 'distill.1.levels', sides([0, 1], [0]), 'write as many numbers for both'),
    (R, 'distill.1.levels', dict(student=[0], teachr=[0]), 'write as many numbers for both, such as dict(student='),
    (R, 'distill.1.levels', sides([0], [7]), "teacher 'neck' gives 5 levels, and levels.teacher names [7]; write numbers from 0"),
    (R, 'distill.1.levels', sides([-1], [-1]), 'write as many numbers for both'),
    (R, 'distill.1.levels', sides(['P3'], ['P3']), 'write as many numbers for both'),
    # What distill may be; methods and their options.
    (R, 'distill', [], "model.distill is []; write a method's name"),
    (R, 'distill', None, "model.distill is None; write a method's name"),
    (R, 'distill', 5, "model.distill is 5; write a method's name"),
    (R, 'distill', ['dist'], "model.distill is ['dist']; write a method's name"),
    (R, 'distill', NECK, 'model.distill is {...; write a list, [dict(name=…'),
    (R, 'distill', dict(tau=4), "dict(type='dist', …) for a method with options"),
    (R, 'distill', ABSENT, "model (DetectorDistiller) takes ... missing: ['distill']"),
    (R, 'distill', 'dist-pluss', "distill='dist-pluss' is no method; write 'dist-plus', or one of"),
    (R, 'distill', 'DIST', "distill='DIST' is no method; write 'dist', or one of"),
    (R, 'distill', loss('dst'), "distill='dst' is no method; write 'dist', or one of"),
    (R, 'distill', 'dist:tau', "'dist:tau' is no method with options; write them like dist:tau=4"),
    (R, 'distill', 'dist:temperature=4', "method 'dist' takes other options: 'temperature' is none of ['acclimation', 'tau'"),
    (R, 'distill', 'dist:taus=4', "'taus' is none of ... write 'tau'"),
    (R, 'distill', 'dist:tau=big', "'dist': loss (DISTLoss): tau='big'; write a number above 0"),
    (R, 'distill', 'kd:relation=cosine', "method 'kd' takes other options: 'relation' is none of ['acclimation', 'tau', 'loss_weight']"),
    (R, 'distill', 'kd:loss_weight=-1', 'loss (LogitKLLoss): loss_weight=-1; write a number'),
    (R, 'distill', 'features:tau=1', "method 'features' takes other options: 'tau' is none of"),
    (R, 'distill', 'cwd:temperature=1', "loss (ChannelWiseLoss) takes ['tau', 'loss_weight']; unknown: ['temperature']"),
    (R, 'distill', 'mgd:mask_rate=0.5', "unknown: ['mask_rate'] (write 'mask_ratio')"),
    (R, 'distill', 'vrm:magnitude=40', 'views.magnitude=40; write a number from 0 to 30'),
    (R, 'distill', 'both-views:samples=3', "method 'both-views' takes other options: 'samples' is none of ['operations'"),
    (R, 'distill', 'dist-plus:acclimation=dict(lr=0.1)', "acclimation takes ... unknown: ['lr'] (write 'lr_mult')"),
    (R, 'distill', 'dist:acclimation=yes', "distill='dist' takes acclimation=dict(…), got 'yes'"),
    (P, 'distill', 'fgd', "distill='fgd' finds nothing to compare: ... write a list of entries"),
    # The teacher: its options, its config, its file.
    (R, 'teacher', None, "model.teacher is None; write teacher=dict(config='…', checkpoint='…')"),
    (R, 'teacher', 'teacher.py', "model.teacher is 'teacher.py'; write teacher=dict("),
    (R, 'teacher', [dict(config='a.py')], 'one teacher teaches: write teacher=dict('),
    (R, 'teacher', ABSENT, "takes ... missing: ['teacher']"),
    (R, 'teacher.ckpt', 'x.pth', "teacher takes ['config', ... unknown: ['ckpt'] (write 'checkpoint')"),
    (R, 'teacher.cfg', 'x.py', "unknown: ['cfg'] (write 'config')"),
    (R, 'teacher.config', ABSENT, "teacher takes ... missing: ['config']"),
    (R, 'teacher.config', None, "teacher.config is None; write a path, 'mmdet::folder/name.py'"),
    (R, 'teacher.config', 'nowhere.py', "teacher.config 'nowhere.py' is no file ... write a path"),
    (R, 'teacher.config', 'configs', "teacher.config 'configs' is no file ... write a path"),
    (R, 'teacher.config', 'mmdet::retinanet/retinanet_r50_fpn_1x_coc.py', "cannot be read ... the closest there is 'retinanet_r50_fpn_1x_coco.py'"),
    (R, 'teacher.config', 'mmdt::retinanet/retinanet_r50_fpn_1x_coco.py', "teacher.config 'mmdt::... cannot be read ... write a config file"),
    (R, 'teacher.config', 'README.md', "teacher.config 'README.md' cannot be read ... write a config file"),
    (R, 'teacher.config', 'configs/_base_/schedule_demo.py', "teacher.config has no 'model'; it has ["),
    (R, 'teacher.config', {}, "teacher.config: the model is {}, which names no type; write a model's dict"),
    (R, 'teacher.config', loss('RetinaNett'), "teacher.config: the model cannot be built ('RetinaNett' is not registered); write 'RetinaNet'"),
    (R, 'teacher.config', loss('RetinaNet'), "teacher.config: the model cannot be built (... missing 3 required"),
    (R, 'teacher.dtype', 'half', "teacher.dtype='half' is unknown; write one of (None, 'float16', 'bfloat16')"),
    (R, 'teacher.dtype', torch.float16, 'teacher.dtype=torch.float16 is unknown; write one of'),
    (R, 'teacher.channels_last', 'yes', "teacher.channels_last='yes'; write True or False"),
    (R, 'teacher.compile', 3, 'compile=3 is a int; write compile=True'),
    (R, 'teacher.compile', dict(mod='max-autotune'), "compile takes ... unknown: ['mod'] (write 'mode')"),
    (R, 'teacher.checkpoint', 'no.pth', 'teacher.checkpoint: no.pth does not exist ... write the weights'),
    (R, 'teacher.checkpoint', 'configs', 'teacher.checkpoint: configs is a folder; write one of the files in it'),
    (R, 'teacher.checkpoint', '', "teacher.checkpoint=''; write the weights' path or address"),
    (R, 'teacher.checkpoint', 5, "teacher.checkpoint=5; write the weights' path or address"),
    (R, 'teacher.checkpoint', 'README.md', 'README.md is no checkpoint ... write a file of torch.save or safetensors'),
    (R, 'teacher.checkpoint', 'nowhere://x', 'nowhere://x cannot be fetched ... check the address'),
    # Class counts, scopes, the student.
    (R, 'teacher.config.bbox_head.num_classes', 7, 'The student predicts 10 classes and the teacher 7 ... name the classes of both'),
    (P, 'teacher.config.decode_head.num_classes', 5, 'The student predicts 11 classes and the teacher 5'),
    (R, 'teacher.config', pairs.segmentor(), "teacher.config is a segmentor, EncoderDecoder; write type='SegmentorDistiller'"),
    (P, 'teacher.config', pairs.retinanet(), "teacher.config is a detector, RetinaNet; write type='DetectorDistiller'"),
    (R, 'type', 'SegmentorDistiller', "model.student is a detector, RetinaNet; write type='DetectorDistiller'"),
    (P, 'type', 'DetectorDistiller', "model.student is a segmentor, EncoderDecoder; write type='SegmentorDistiller'"),
    (R, 'student', None, "model.student is None; write the model's dict"),
    (R, 'student', 'student.py', "model.student is 'student.py'; write the model's dict"),
    (R, 'student', ABSENT, "takes ... missing: ['student']"),
    (R, 'student.type', 'RetinaNett', "model.student cannot be built ('RetinaNett' is not registered); write 'RetinaNet'"),
    (R, 'student.backbone.type', 'ResNett', "model.student cannot be built ('ResNett' is not registered); write 'ResNet'"),
    (R, 'student.type', ABSENT, "model.student is {... which names no type; write a model's dict"),
    # Keys of model.
    (R, 'distil', 'dist', "model (DetectorDistiller) takes ... unknown: ['distil'] (write 'distill')"),
    (R, 'acclimaton', {}, "unknown: ['acclimaton'] (write 'acclimation')"),
    (P, 'view', {}, "model (SegmentorDistiller) takes ... unknown: ['view'] (write 'views')"),
    (R, 'loss_weight', 1, "model (DetectorDistiller) takes ['student', ... unknown: ['loss_weight']"),
    # Acclimation.
    (R, 'acclimation', True, 'model.acclimation is True; write dict() for its defaults, or leave it out'),
    (R, 'acclimation', dict(lrmult=0.1), "acclimation takes ['modules', ... unknown: ['lrmult'] (write 'lr_mult')"),
    (R, 'acclimation', dict(lr_mult=-1), 'acclimation.lr_mult=-1; write a number, 0 or more'),
    (R, 'acclimation', dict(lr_mult='x'), "acclimation.lr_mult='x'; write a number, 0 or more"),
    (R, 'acclimation', dict(modules='bbox_head.retina_cls'), "acclimation.modules='bbox_head.retina_cls'; write a list of paths"),
    (R, 'acclimation', dict(modules=[]), 'acclimation.modules=[]; write a list of paths in the teacher'),
    (R, 'acclimation', dict(modules=[3]), 'acclimation.modules=[3]; write a list of paths in the teacher'),
    (R, 'acclimation', dict(modules=['bbox_head.retina_cl']), 'acclimation.modules: ... the closest are: bbox_head.retina_cls'),
    (R, 'acclimation', dict(modules=['bbox_head.retina_reg']), 'acclimation.modules: the logits ... do not depend on ... name modules that come before it'),
    (R, 'acclimation', dict(entry='nope'), "acclimation.entry is 'nope'; write one of the entries with a loss on logits: ['dist']"),
    (R, 'acclimation', dict(entry='features'), "acclimation.entry is 'features'; write one of the entries"),
    (R, 'acclimation', dict(loss='AcclimationLoss'), "acclimation.loss='AcclimationLoss'; write options of AcclimationLoss"),
    (R, 'acclimation', dict(loss=loss('DISTLoss')), 'acclimation.loss={... write options of AcclimationLoss'),
    (R, 'acclimation', dict(loss=dict(temperature=1)), "acclimation.loss (AcclimationLoss) takes ... unknown: ['temperature']"),
    (R, 'acclimation', dict(loss=dict(loss_weight=-1)), 'acclimation.loss (AcclimationLoss): loss_weight=-1; write a number'),
    (R, 'acclimation', dict(loss=dict(relation='cosine')), "acclimation.loss (AcclimationLoss): relation='cosine' is unknown; write one of"),
    # Class names.
    (R, 'classes', ['a'], "model.classes is ['a']; write dict(student="),
    (R, 'classes', dict(student=['a'], teachr=['a']), "model.classes takes ... unknown: ['teachr'] (write 'teacher')"),
    (R, 'classes', sides(10, 10), "model.classes.student: class names 10 are no list of strings; write ['cat'"),
    (R, 'classes', sides(['a', 'a'], ['a']), "model.classes.student: class names ['a'] are there more than once; write each once"),
    (R, 'classes', sides('CocoDatset', 'CocoDataset'), "model.classes.student: 'CocoDatset' is no registered data set ... write one, such as 'CocoDataset'"),
    (R, 'classes', sides(['a', 'b'], ['a', 'b']), 'the student predicts 10 classes, but there are 2 names in classes.student'),
    (R, 'classes', sides(list('abcdefghij'), list('klmnopqrst')), 'have no name in common; names must be spelled alike'),
    # Views.
    (R, 'views', True, 'model.views is True; write dict() for its defaults, or leave it out'),
    (R, 'views', dict(magnitud=1), "views takes ['operations', ... unknown: ['magnitud'] (write 'magnitude')"),
    (R, 'views', dict(operations='two'), "views.operations='two'; write a whole number, 0 or more"),
    (R, 'views', dict(magnitude=99), 'views.magnitude=99; write a number from 0 to 30'),
    (R, 'views', dict(task_weight=-1), 'views.task_weight=-1; write a number, 0 or more'),
    (R, 'views', dict(task_weight=NAN), 'views.task_weight=nan; write a number, 0 or more'),
]  # fmt: skip


@pytest.fixture(scope='module')
def right():
    return {kind: pairs.pair(kind) for kind in (R, F, P)}


def put(cfg, key, value):
    *way, last = key.split('.')
    for part in way:
        cfg = cfg[int(part) if part.isdigit() else part]
    if value is ABSENT:
        del cfg[last]
    else:
        cfg[last] = copy.deepcopy(value)


@pytest.mark.parametrize(
    ('kind', 'key', 'value', 'answer'), WRONG,
    ids=[f'{i}-{key}={value!s:.30}' for i, (_, key, value, _) in enumerate(WRONG)])
def test_a_wrong_config_is_refused_when_built(kind, key, value, answer, right):
    cfg = copy.deepcopy(right[kind])
    keys = key.split('+')  # of two that do not go together
    for one, given in zip(keys, value if len(keys) > 1 else [value], strict=True):
        put(cfg, one, given)
    parts = [re.escape(part.strip()) for part in answer.split('...')]
    with pytest.raises(ValueError, match='.*'.join(parts)) as said:
        MODELS.build(cfg)
    assert '\n' not in str(said.value)


def test_the_table_is_long():
    assert len(WRONG) >= 80
