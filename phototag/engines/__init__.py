"""Run models. The only package that imports TensorFlow or LiteRT, inside functions."""
