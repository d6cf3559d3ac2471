"""Wavelet scattering features of a raster, then a linear head (torch)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from kymatio.scattering2d.filter_bank import filter_bank
from torch import nn
from torch.nn.functional import conv2d

from pipeline.drawings.encodings import num_channels, raster
from pipeline.foundation.params import Count, Share
from pipeline.learners._torch import TorchLearner, square_root

TAIL = 0.01  # share of a wavelet's absolute sum that may be cut off at its ends
TINY = 1e-8  # keeps the slope of a modulus finite at 0


class Learner(TorchLearner):
    """Kymatio's scattering transform, which is not trained; then norms of its paths and a linear head.

    The transform: https://arxiv.org/abs/1203.1513. With a linear head, https://arxiv.org/abs/1412.8659.
    """

    encode = raster

    def network(
        self, num_words: int, *, scales: Count, angles: Count, order: Literal[1, 2], dropout: Share
    ) -> nn.Module:
        """Wavelets of `scales` octaves and `angles` directions; `order` 2 applies them a second time."""
        transform = Scattering(self.params.encoding["side"], scales, angles, order)
        paths = transform.paths * num_channels(self.params.encoding["channels"])
        head = [nn.Flatten(), nn.Dropout(dropout), nn.Linear(paths * transform.side**2, num_words)]
        return nn.Sequential(transform, nn.BatchNorm2d(paths, affine=False), *head)


class Scattering(nn.Module):
    """Moduli of wavelets, averaged: (B, C, side, side) → (B, C * paths, side / 2^scales, side / 2^scales).

    The transform of kymatio's ScatteringTorch2D, with the paths in another order, and with empty canvas around a
    picture where kymatio repeats it. Kymatio works in Fourier space, one filter at a time; for small pictures real
    convolutions are faster, support bfloat16, and can be exported.

    Attributes:
        paths: features at each position: the mean of the picture; the mean of each wavelet's modulus; with order 2,
            the mean of each coarser wavelet's modulus of each wavelet's modulus.
        side: of the output.
    """

    mean0: torch.Tensor

    def __init__(self, side: int, scales: int, angles: int, order: int) -> None:
        super().__init__()
        self.frame = 2**scales  # empty pixels around a picture
        if side % self.frame:
            raise ValueError(f"{scales} scales need a side that is a multiple of {self.frame}, not {side}")
        self.scales, self.order, self.side, framed = scales, order, side // self.frame, side + 2 * self.frame
        self.paths = 1 + angles * scales + (angles**2 * scales * (scales - 1) // 2 if order == 2 else 0)
        filters = filter_bank(framed, framed, scales, angles)
        for scale in range(scales):  # a scale's moduli are sampled every 2^scale pixels
            self._keep(f"mean{scale}", _mean(filters["phi"]["levels"][scale], 2 ** (scales - scale)))
            of_scale = filters["psi"][scale * angles : (scale + 1) * angles]
            for finer in range(max(1, scale) if order == 2 else 1):
                self._keep(f"wavelets{scale}_{finer}", _kernels(np.stack([each["levels"][finer] for each in of_scale])))

    def _keep(self, name: str, array: np.ndarray) -> None:
        """Register an array that is neither trained nor saved: it is computed from the params."""
        self.register_buffer(name, torch.from_numpy(array.astype(np.float32)), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All paths of the first channel, then of the next."""
        channels, x = x.shape[1], x.flatten(0, 1)[:, None]  # (B * C, 1, side, side)
        mean = self.mean0[:, self.frame : -self.frame]
        found = [mean @ x @ mean.T]  # each (B * C, paths, side / 2^scales, side / 2^scales)
        for scale in range(self.scales):
            first = self._modulus(x, 0, scale, self.frame)  # (B * C, angles, framed / 2^scale, framed / 2^scale)
            found.append(self._mean(first, scale))
            for coarser in range(scale + 1, self.scales) if self.order == 2 else ():
                second = self._modulus(first.flatten(0, 1)[:, None], scale, coarser, 0)
                found.append(self._mean(second.unflatten(0, first.shape[:2]).flatten(1, 2), coarser))
        return torch.cat(found, 1).unflatten(0, (-1, channels)).flatten(1, 2)

    def _modulus(self, x: torch.Tensor, finer: int, scale: int, frame: int) -> torch.Tensor:
        """Moduli of one scale's wavelets of pictures sampled at a finer scale: (N, 1, H, W) → (N, angles, H', W')."""
        kernels = getattr(self, f"wavelets{scale}_{finer}")
        x = conv2d(x, kernels, stride=2 ** (scale - finer), padding=kernels.shape[-1] // 2 + frame)
        real, imaginary = x.chunk(2, 1)
        return square_root(real * real + imaginary * imaginary + TINY)

    def _mean(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        """Local means of arrays sampled at a scale: (N, paths, H, W) → (N, paths, side, side)."""
        mean = getattr(self, f"mean{scale}")
        return mean @ x @ mean.T


def _kernels(spectra: np.ndarray) -> np.ndarray:
    """Wavelets (angles, n, n) in Fourier space → convolution kernels (2 * angles, 1, size, size), size odd.

    First the real parts, then the imaginary parts.
    """
    wavelets = np.fft.fftshift(np.fft.ifft2(spectra), (1, 2))
    centre, whole = wavelets.shape[1] // 2, np.abs(wavelets).sum()
    for reach in range(centre):
        inner = wavelets[:, centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]
        if np.abs(inner).sum() >= (1 - TAIL) * whole:
            break
    # A convolution in torch is a correlation; these spectra are real, so its moduli are the same.
    return np.concatenate([inner.real, inner.imag])[:, None]


def _mean(spectrum: np.ndarray, step: int) -> np.ndarray:
    """A round Gaussian (n, n) in Fourier space → the matrix (n / step - 2, n) that averages along an axis and samples.

    The first and the last sample, which are in the frame, are left out.
    """
    along = spectrum[:, :1] / np.sqrt(spectrum[0, 0])  # its outer product with itself is the spectrum
    circulant = np.fft.ifft(along * np.fft.fft(np.eye(len(along)), axis=0), axis=0).real
    return circulant[::step][1:-1]
