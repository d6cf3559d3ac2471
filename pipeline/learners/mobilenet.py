"""Any backbone of keras.applications over a raster (Keras)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.drawings.encodings import num_channels, raster
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Share
from pipeline.learners._keras import KerasLearner

if TYPE_CHECKING:
    import keras


class Learner(KerasLearner):
    """A backbone named as at https://keras.io/api/applications/, with random initial weights and a linear head."""

    encode = raster
    search: ClassVar = {"network.backbone": ["MobileNet", "MobileNetV2"]}  # both accept `alpha`

    def network(self, num_words: int, *, backbone: str, options: dict[str, Any], dropout: Share) -> keras.Model:
        """`options` go to the backbone's constructor, such as `alpha` of the MobileNets.

        Raises:
            SketchstackError: keras.applications has no such backbone.
        """
        import keras
        from keras import layers

        build = getattr(keras.applications, backbone, None)
        if not callable(build):
            known = ", ".join(name for name in dir(keras.applications) if name[0].isupper())
            raise SketchstackError(
                f"learners.mobilenet.network.backbone: no {backbone!r}; keras.applications has {known}."
            )
        side, channels = self.params.encoding["side"], num_channels(self.params.encoding["channels"])
        images = keras.Input((side, side, channels), dtype="uint8")
        body = build(include_top=False, weights=None, input_shape=(side, side, channels), pooling="avg", **options)
        # The newer backbones scale grey levels themselves.
        scales = any(isinstance(layer, layers.Rescaling | layers.Normalization) for layer in body.layers)
        x = body(images if scales else layers.Rescaling(1 / 255)(images))
        return keras.Model(images, layers.Dense(num_words, dtype="float32")(layers.Dropout(dropout)(x)))
