"""facemood: its Keras file, prepared as `predict_emotion_from_camera` prepares a frame; that function takes a camera alone.

The network is traced once, which makes it faster than the package's own call for each frame.
"""

from __future__ import annotations

from pathlib import Path

import facemood
import numpy as np
import tensorflow as tf
from _serve import Face, serve
from PIL import Image

SIDE = 170
LABELS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    network = tf.keras.models.load_model(Path(facemood.__file__).parent / "model__version1.0.0__.h5", compile=False)
    run = tf.function(lambda picture: network(picture, training=False))

    def whole(face: Face) -> str:
        picture = Image.fromarray(face).convert("RGB").resize((SIDE, SIDE))
        return LABELS[int(np.argmax(run(tf.constant(np.asarray(picture, np.float32)[None] / 255))))]

    serve({"the face as it is": whole}, ("facemood", "tensorflow", "keras"))


if __name__ == "__main__":
    main()
