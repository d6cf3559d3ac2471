"""Bidirectional GRUs over pen movements (Keras)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pipeline.drawings.encodings import num_features, pen_movements
from pipeline.foundation.params import Count, Share, Widths
from pipeline.learners._keras import KerasLearner

if TYPE_CHECKING:
    import keras


class Learner(KerasLearner):
    """Masked bidirectional GRUs that take a few points per step."""

    encode = pen_movements
    search: ClassVar = {"network.points_a_step": [2, 4, 8]}

    def network(self, num_words: int, *, points_a_step: Count, units: Widths, dropout: Share) -> keras.Model:
        """A GRU per entry of `units`; the outputs of the last one are averaged over the steps inside the drawing."""
        import keras
        from keras import layers, ops

        length, features = self.params.encoding["length"], num_features(timing=self.params.encoding["timing"])
        movements, lengths = keras.Input((length, features)), keras.Input((), dtype="int32")
        steps = length // points_a_step
        x = layers.Reshape((steps, features * points_a_step))(movements)
        inside = ops.greater(lengths[:, None], ops.arange(0, length, points_a_step)[None])  # (B, steps)
        for width in units:
            x = layers.Bidirectional(layers.GRU(width, return_sequences=True))(x, mask=inside)
            x = layers.LayerNormalization()(x)
        x = layers.GlobalAveragePooling1D()(x, mask=inside)
        return keras.Model([movements, lengths], layers.Dense(num_words, dtype="float32")(layers.Dropout(dropout)(x)))
