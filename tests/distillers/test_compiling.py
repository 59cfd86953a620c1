"""torch.compile reaches what no tap is in, and nothing else."""

import copy

import pairs
import pytest

from kd_plugin.distillers.compiling import compile_parts, read_options


def compiled(model):
    return [name for name, module in model.named_modules() if module._compiled_call_impl]


def test_the_largest_parts_without_a_tap_are_compiled():
    model = pairs.build(pairs.pair('pspnet')).student
    fixed = {model.backbone.layer4, model.decode_head.conv_seg}
    parts = compile_parts(model, fixed, backend='eager')
    assert parts == compiled(model)
    assert parts[:4] == ['backbone.stem', 'backbone.layer1', 'backbone.layer2', 'backbone.layer3']
    # The stage is tapped, its blocks are not; heads are driven by their loss, not called.
    assert {'backbone.layer4.0', 'decode_head.bottleneck'} < set(parts)
    assert not {'backbone', 'backbone.layer4', 'decode_head', 'decode_head.conv_seg'} & set(parts)
    assert compiled(copy.deepcopy(model)) == []


def test_taps_and_what_stands_in_for_idle_modules_stay_as_they_are():
    distiller = pairs.build(pairs.pair('faster_rcnn'))
    distiller.compile(backend='eager')
    owners = {owner for owner, _, _ in distiller._frozen.idle}
    tapped = {model.get_submodule(path) for entry in distiller.entries for model, path in (
        (distiller.student, entry.student), (distiller.teacher, entry.teacher))}
    assert owners
    for model in (distiller.student, distiller.teacher):
        assert compiled(model)
        for path in compiled(model):
            assert not (owners | tapped) & set(model.get_submodule(path).modules()), path


def test_a_teachers_own_option_counts_for_it():
    cfg = pairs.pair('pspnet')
    cfg['teacher']['compile'] = False
    distiller = pairs.build(cfg)
    distiller.compile(backend='eager')
    assert compiled(distiller.student) and not compiled(distiller.teacher)


def test_what_is_no_option_is_refused():
    assert read_options(True) == {} and read_options(dict(mode='default')) == dict(mode='default')
    with pytest.raises(ValueError, match="compile='yes' is a str; write compile=True, or a dict"):
        read_options('yes')
