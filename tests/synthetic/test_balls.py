import numpy as np

from emseg.synthetic.neurites import balls_in


def test_depths_are_distances_to_the_surface_and_boxes_hold_whole_balls():
    rng = np.random.default_rng(0)
    shape, size = (6, 20, 15), np.array([30.0, 6.0, 8.0])
    # Some reach over the border, one lies beyond it.
    centres = np.vstack([rng.random((8, 3)) * shape * size, [-500.0, 0, 0]])
    radii = rng.uniform(1, 60, len(centres))
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * size
    balls = list(balls_in(shape, centres, radii, voxel_size=size))
    assert len(balls) == len(centres)
    for centre, radius, (box, depth) in zip(centres, radii, balls, strict=True):
        expected = radius - np.linalg.norm(places - centre, axis=-1)
        np.testing.assert_allclose(depth, expected[box])
        expected[box] = -1
        assert (expected <= 0).all()
