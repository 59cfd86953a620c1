"""Two processes train as one does on the joint batch."""

import distributed_cases
import processes
import pytest
import torch


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What each of two processes found."""
    out = tmp_path_factory.mktemp('processes')
    processes.start('distributed_worker.py', out)
    return [torch.load(out / f'{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize('case', range(len(distributed_cases.CASES)))
def test_the_global_batch_loss_is_that_of_all_rows(found, case):
    value, gradient = distributed_cases.loss(*distributed_cases.CASES[case], shares=[0, 1])
    values, gradients = zip(*(part['losses'][case] for part in found), strict=True)
    torch.testing.assert_close(sum(values) / 2, value, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat(gradients), gradient, rtol=0, atol=1e-6)


def test_two_processes_train_as_one(found):
    model = distributed_cases.distiller()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    steps = distributed_cases.train(model, images=[0, 1])
    for one, *parts in zip(steps, *(part['steps'] for part in found), strict=True):
        for name, value in one.items():
            assert sum(part[name] for part in parts) / 2 == pytest.approx(value, rel=1e-4), name
    for key, value in model.state_dict().items():
        assert torch.equal(found[0]['weights'][key], found[1]['weights'][key])
        moved = (value - start[key]).abs().max()
        assert (found[0]['weights'][key] - value).abs().max() <= 0.03 * moved + 1e-6
