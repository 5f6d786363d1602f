import numpy as np
import pytest
import torch

from emseg.errors import UserError
from emseg.inference.predict import predict


def predicted(net, **changes):
    options = {"channels": 1, "window_size": (4, 4, 4), "normalize": np.float32, **changes}
    return predict(net, options.pop("image", np.ones((4, 4, 4), np.uint8)), **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"output_dtype": "uint16"}, "output_dtype 'uint16'"),
        ({"output_dtype": "uint8", "activation": "none"}, "uint8.*none"),
        ({"activation": "sigmiod"}, "did you mean 'sigmoid'"),
        ({"padding_mode": "reflct"}, "did you mean 'reflect'"),
        ({"blending": "bumb"}, "did you mean 'bump'"),
        ({"sw_batch_size": 0}, "sw_batch_size=0"),
        ({"offsets": [(0, 0, 1)] * 2}, "offsets.*1 channels"),
        ({"offsets": [(0, 1)]}, "offsets.*3 values"),
        ({"edge_side": "dest"}, "did you mean 'destination'"),
        ({"window_size": (4, 4)}, "window_size.*3 values"),
        ({"window_size": (4, 0, 4)}, "window_size.*0 must be 1 or more"),
        ({"overlap": 1.0}, "overlap 1.0"),
        ({"overlap": -0.1}, "overlap -0.1"),
        ({"overlap": [0.5, 0.5]}, "overlap.*3 values"),
        ({"pad": [0, -1, 0]}, "pad.*-1 must be 0 or more"),
        ({"pad": [1]}, "pad.*3 values"),
        ({"image": np.ones((0, 4, 4), np.uint8)}, "empty"),
        ({"channel_activations": ["tahn"]}, "did you mean 'tanh'"),
        ({"channel_activations": ["sigmoid", "tanh"]}, "channel_activations.*1 values"),
        ({"channel_activations": ["tanh"], "output_dtype": "uint8"}, "channel 0 is a distance"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_network_runs(change, named):
    def never(batch):
        raise AssertionError("the network ran")

    with pytest.raises(UserError, match=named):
        predicted(never, **change)


@pytest.mark.parametrize(
    ("net", "channels", "named"),
    [
        (lambda batch: batch, 2, r"\(1, 4, 4, 4\).*\(2, 4, 4, 4\)"),
        (lambda batch: batch * torch.nan, 1, "plane 0 is not finite"),
    ],
)
def test_output_of_another_shape_or_without_value_is_refused(net, channels, named):
    with pytest.raises(UserError, match=named):
        predicted(net, channels=channels)
