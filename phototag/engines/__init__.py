"""Run models. This is the only package that imports TensorFlow or LiteRT, and only inside functions."""
