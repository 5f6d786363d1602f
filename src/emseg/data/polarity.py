"""The target of synaptic polarity: the two sides of a synapse."""

import numpy as np

from emseg.data.targets import Target


class Polarity(Target):
    """The target of synapses and their direction: channels `pre`, `post` and `synapse`, 0 or 1.

    Labels have two regions per synapse, as in the data of Lin et al. 2020 ("Two-stream active query
    suggestion for active learning in connectomics"): synapse s has its pre-synaptic region under 2
    s - 1 and its post-synaptic region under 2 s. `synapse` is both of them. Unlabelled voxels (-1)
    are masked in all three.

    The meaning of an id is that it is odd or even: the target needs the stored ids, so
    `data.relabel_crops` and ids of 2^31 and more are not allowed.
    """

    needs_stored_ids = True
    names = ("pre", "post", "synapse")

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        synapse, odd = labels > 0, labels % 2 == 1
        values = np.stack([synapse & odd, synapse & ~odd, synapse]).view(np.uint8)
        return values, np.broadcast_to(labels != -1, values.shape).copy()
