"""Convolutions along the pen movements, then a bidirectional LSTM (torch)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.drawings.encodings import num_features, pen_movements
from pipeline.foundation.params import Count, Share, Widths
from pipeline.learners._torch import TorchLearner


class Learner(TorchLearner):
    """1-D convolutions, then a bidirectional LSTM, as in Google's drawing-classification tutorial.

    The convolutions may stride, so that the LSTM takes fewer steps, which dominate the time on a CPU.
    """

    encode = pen_movements

    def network(
        self, num_words: int, *, filters: Widths, strides: Widths, units: Count, layers: Count, dropout: Share
    ) -> nn.Module:
        """Convolutions of these filters and strides, then `layers` LSTMs with `units` per direction."""
        features = num_features(timing=self.params.encoding["timing"])
        return ConvLSTM(num_words, features, filters, strides, units, layers, dropout)


class ConvLSTM(nn.Module):
    """(B, T, features) and lengths (B,) → (B, num_words)."""

    def __init__(
        self,
        num_words: int,
        features: int,
        filters: list[int],
        strides: list[int],
        units: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        widths = [features, *filters]  # of the movements, then of each convolution
        self.strides = strides
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 5, stride, 2, bias=False), nn.BatchNorm1d(b), nn.ReLU())
            for a, b, stride in zip(widths[:-1], filters, strides, strict=True)
        )
        self.lstm = nn.LSTM(
            widths[-1], units, layers, batch_first=True, bidirectional=True, dropout=dropout if layers > 1 else 0
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * units, num_words))

    def forward(self, movements: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Pool over the steps inside each drawing: the mean and the largest output."""
        x = movements.transpose(1, 2)  # (B, C, T)
        for stride, convolution in zip(self.strides, self.convolutions, strict=True):
            x, lengths = convolution(x), (lengths + stride - 1) // stride
        packed = pack_padded_sequence(x.transpose(1, 2).float(), lengths, batch_first=True, enforce_sorted=False)
        with torch.autocast(x.device.type, enabled=False):  # on a GPU autocast always runs an LSTM in float16
            outputs = self.lstm(packed)[0]
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)  # (B, T', 2 * units), 0 after the end
        inside = torch.arange(outputs.shape[1])[None, :, None] < lengths[:, None, None]  # (B, T', 1)
        inside = inside.to(outputs.device, non_blocking=True)
        mean = outputs.sum(1) / lengths[:, None].to(outputs, non_blocking=True)
        most = outputs.masked_fill(~inside, -1).amax(1)  # outputs of an LSTM are in -1..1
        return self.head(torch.cat([mean, most], 1))
