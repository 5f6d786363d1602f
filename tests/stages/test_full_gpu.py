"""A GPU whose memory holds fewer windows than a batch has; a stand-in raises what CUDA would."""

import pytest
import torch

from emseg.stages.prediction_parts import as_memory_allows


class Small(torch.nn.Module):
    """Doubles windows, but has memory for `fits` at a time."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        self.fits, self.sizes = fits, list[int]()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return 2 * batch


@pytest.mark.parametrize(("fits", "tried"), [(9, [7]), (3, [7, 3, 3, 1]), (2, [7, 3, 1] + [1] * 6)])
def test_batches_are_halved_until_they_fit_and_stay_so(fits, tried, capsys):
    net, batch = Small(fits), torch.rand(7, 1, 2, 2, 2)
    forward = as_memory_allows(net)
    assert torch.equal(forward(batch), 2 * batch)
    assert net.sizes == tried
    reported = capsys.readouterr().err.splitlines()
    assert len(reported) == sum(size > fits for size in tried)
    net.sizes.clear()
    assert torch.equal(forward(batch), 2 * batch)
    assert max(net.sizes) <= fits and not capsys.readouterr().err


def test_memory_for_no_window_at_all():
    with pytest.raises(torch.OutOfMemoryError):
        as_memory_allows(Small(0))(torch.rand(7, 1, 2, 2, 2))
