import numpy as np
import pytest
import torch

from emseg.errors import UserError
from emseg.inference.predict import predict


def as_float(array):
    return array.astype(np.float32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"output_dtype": "uint16"}, "output_dtype 'uint16'"),
        ({"output_dtype": "uint8", "activation": "none"}, "uint8.*none"),
        ({"activation": "sigmiod"}, "did you mean 'sigmoid'"),
        ({"padding_mode": "reflct"}, "did you mean 'reflect'"),
        ({"blending": "bumb"}, "did you mean 'bump'"),
        ({"sw_batch_size": 0}, "sw_batch_size 0"),
        ({"offsets": [(0, 0, 1)] * 2}, "offsets"),
        ({"offsets": [(0, 1)]}, "offsets"),
        ({"edge_side": "dest"}, "did you mean 'destination'"),
        ({"window_size": (4, 4)}, "window_size"),
        ({"channel_activations": ["tahn"]}, "did you mean 'tanh'"),
        ({"channel_activations": ["tanh"], "output_dtype": "uint8"}, "channel 0 is a distance"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_network_runs(change, named):
    def never(batch):
        raise AssertionError("the network ran")

    options = {"channels": 1, "window_size": (4, 4, 4), "normalize": as_float, **change}
    with pytest.raises(UserError, match=named):
        predict(never, np.zeros((4, 4, 4), np.uint8), **options)


def test_activations_are_of_every_channel():
    with pytest.raises(UserError, match="2 activations for 1 channels"):
        predict(
            lambda batch: batch,
            np.zeros((4, 4, 4), np.uint8),
            channels=1,
            window_size=(4, 4, 4),
            normalize=as_float,
            channel_activations=["sigmoid", "tanh"],
        )


def test_a_network_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"\(1, 4, 4, 4\).*\(2, 4, 4, 4\)"):
        predict(
            lambda batch: batch,
            np.zeros((4, 4, 4), np.uint8),
            channels=2,
            window_size=(4, 4, 4),
            normalize=as_float,
        )


def test_a_network_that_returns_nan_stops_the_run():
    with pytest.raises(UserError, match="plane 0 is not finite"):
        predict(
            lambda batch: batch * torch.nan,
            np.ones((4, 4, 4), np.uint8),
            channels=1,
            window_size=(4, 4, 4),
            normalize=as_float,
        )
