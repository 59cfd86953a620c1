"""Views against PIL's operations, and what they must leave alone."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from PIL import Image, ImageEnhance, ImageOps

from kd_plugin import views as V

MEAN = torch.tensor([123.0, 116, 103]).view(3, 1, 1)
STD = torch.tensor([58.0, 57, 57]).view(3, 1, 1)


def photograph(height=37, width=53):
    """Smooth colours with noise, whole numbers from 20 to 200."""
    grid = torch.linspace(0, 3, height)[:, None] + torch.linspace(0, 2, width)
    image = torch.stack([grid.sin(), grid.cos(), (2 * grid).sin()]) * 60 + 110
    return (image + 20 * torch.rand(3, height, width)).round().clamp(20, 200)


def by_pil(name, change):
    factor = 1 + 0.9 * change
    return {
        'identity': lambda image: image,
        'autocontrast': ImageOps.autocontrast,
        'equalize': ImageOps.equalize,
        'brightness': lambda image: ImageEnhance.Brightness(image).enhance(factor),
        'contrast': lambda image: ImageEnhance.Contrast(image).enhance(factor),
        'colour': lambda image: ImageEnhance.Color(image).enhance(factor),
        'sharpness': lambda image: ImageEnhance.Sharpness(image).enhance(factor),
        'posterize': lambda image: ImageOps.posterize(image, 8 - round(4 * abs(change))),
        'solarize': lambda image: ImageOps.solarize(
            image, round(255 * (1 - abs(change)))),
    }[name]


@pytest.mark.parametrize('change', [1 / 3, -1 / 3, 1.0])
@pytest.mark.parametrize('name', V.OPERATIONS)
def test_operations_equal_pils(name, change):
    image = photograph()
    other = Image.fromarray(image.byte().permute(1, 2, 0).numpy())
    expected = torch.from_numpy(np.array(by_pil(name, change)(other))).permute(2, 0, 1)
    got = V.OPERATIONS[name](image, change)
    exact = name in ('identity', 'equalize', 'posterize', 'solarize')
    assert (got - expected).abs().max() <= (0 if exact else 1.5)  # PIL rounds, some of it twice
    # The channels the other way round.
    flipped = V.OPERATIONS[name](image.flip(0), change, rgb=False)
    torch.testing.assert_close(flipped.flip(0), got)


@pytest.mark.parametrize('name', V.OPERATIONS)
@pytest.mark.parametrize('shape', [(3, 1, 1), (3, 2, 5), (1, 6, 6), (4, 6, 6)])
def test_operations_take_any_image(name, shape):
    for image in (torch.full(shape, 7.0), 255 * torch.rand(shape)):
        got = V.OPERATIONS[name](image, 1 / 3)
        assert got.shape == shape and got.isfinite().all() and 0 <= got.min() <= got.max() <= 255


def views(**options):
    return V.VirtualViews(MEAN, STD, **options)


def batch(count=6):
    return torch.stack([(photograph() - MEAN) / STD for _ in range(count)])


def test_each_image_is_drawn_for_itself_and_keeps_its_geometry():
    images, made = batch(), views()
    kept = images.clone()
    viewed = made(images)
    assert torch.equal(images, kept) and viewed.shape == images.shape
    made.draws.count = 0
    for one, image, changes in zip(viewed, images, made.draw(6), strict=True):
        pixels = image * STD + MEAN
        for name, strength in changes:
            pixels = V.OPERATIONS[name](pixels, strength)
        torch.testing.assert_close(one, (pixels - MEAN) / STD)
    assert len({str(changes) for changes in made.draw(6)}) > 1
    assert not torch.equal(viewed, made(images))


def test_drawn_are_all_operations_either_way_as_often():
    drawn = [change for changes in views(operations=3).draw(3000) for change in changes]
    counts = [sum(name == other for name, _ in drawn) for other in V.OPERATIONS]
    assert len(drawn) == 9000 and 850 < min(counts) <= max(counts) < 1150
    assert {strength for _, strength in drawn} == {10 / 30, -10 / 30}
    assert abs(sum(strength for _, strength in drawn)) < 100


def test_without_operations_the_view_is_the_batch():
    images = batch()
    assert torch.equal(views(operations=0)(images), images)


def test_outside_the_images_nothing_changes():
    images = batch()
    images[0, :, 20:], images[0, :, :, 30:] = 7.0, 7.0
    samples = [BaseDataElement(metainfo=dict(img_shape=(20, 30)))]
    samples += [BaseDataElement(metainfo={})] * 5
    made = views(operations=5, magnitude=30)
    viewed = made(images, samples)
    assert torch.equal(viewed[0, :, 20:], images[0, :, 20:])
    assert torch.equal(viewed[0, :, :, 30:], images[0, :, :, 30:])
    assert not torch.equal(viewed[0], images[0])
    # Nor does it count: an image alone is viewed as in a padded batch.
    made.draws.count = 0
    torch.testing.assert_close(made(images[:1, :, :20, :30])[0], viewed[0, :, :20, :30])


def test_views_take_nothing_from_training_and_go_on_from_a_checkpoint():
    images, made = batch(), views()
    state = torch.get_rng_state()
    made(images)
    assert torch.equal(state, torch.get_rng_state())
    saved = made.state_dict()
    following = made(images)
    assert list(saved) == ['draws._extra_state']
    torch.manual_seed(5)
    other = views()
    assert not torch.equal(other(images), following)
    other.load_state_dict(saved)
    assert torch.equal(other(images), following)


def test_processes_draw_differently(monkeypatch):
    one = views().draw(8)
    monkeypatch.setattr('kd_plugin.rng.get_rank', lambda: 1)
    assert views().draw(8) != one


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_stays_it(dtype):
    images, made = batch().to(dtype), views()
    viewed = made(images)
    made.draws.count = 0
    assert viewed.dtype == dtype and viewed.isfinite().all()
    torch.testing.assert_close(viewed, made(images.float()).to(dtype))


@pytest.mark.parametrize(('options', 'message'), [
    (dict(operations=-1), 'views.operations=-1; write a whole number'),
    (dict(operations=1.5), 'views.operations=1.5'),
    (dict(magnitude=31), 'views.magnitude=31; write a number from 0 to 30'),
    (dict(magnitude='10'), "views.magnitude='10'"),
])  # fmt: skip
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        views(**options)
