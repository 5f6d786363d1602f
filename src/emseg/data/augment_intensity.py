"""Changes of intensity; afterwards the image saturates at 0 and 1, as the detector did."""

from dataclasses import dataclass

import numpy as np

from emseg.data.augment import Sample, Transform, check_interval, check_probability


@dataclass(frozen=True, kw_only=True)
class Brightness(Transform):
    """With probability `p`, one number drawn from `shift` is added to every voxel."""

    shift: tuple[float, float] = (-0.1, 0.1)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.shift, name="shift", owner=self)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < self.p:
            image = sample.image
            image += np.float32(rng.uniform(*self.shift))
            np.clip(image, 0, 1, out=image)
        return sample


@dataclass(frozen=True, kw_only=True)
class Contrast(Transform):
    """With probability `p`, the distance to the patch's mean is multiplied by one `gain`."""

    gain: tuple[float, float] = (0.9, 1.1)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.gain, name="gain", owner=self, least=0)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < self.p:
            image = sample.image
            gain, mean = np.float32(rng.uniform(*self.gain)), image.mean()
            image *= gain
            image += mean * (1 - gain)
            np.clip(image, 0, 1, out=image)
        return sample


@dataclass(frozen=True, kw_only=True)
class Gamma(Transform):
    """With probability `p`, every voxel is raised to one power.

    The power's logarithm is uniform over `gamma`, so that [1/g, g] darkens and lightens alike.
    """

    gamma: tuple[float, float] = (0.9, 1.1)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.gamma, name="gamma", owner=self, least=0.01)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < self.p:
            power = np.exp(rng.uniform(*np.log(self.gamma)))
            np.power(sample.image, np.float32(power), out=sample.image)
        return sample


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Transform):
    """With probability `p`, independent normal noise; its `sigma` is drawn from an interval."""

    sigma: tuple[float, float] = (0.0, 0.05)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.sigma, name="sigma", owner=self, least=0)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < self.p:
            image = sample.image
            noise = rng.standard_normal(image.shape, dtype=np.float32)
            noise *= np.float32(rng.uniform(*self.sigma))
            image += noise
            np.clip(image, 0, 1, out=image)
        return sample
