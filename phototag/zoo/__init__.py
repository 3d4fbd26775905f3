"""Build, calibrate and install models."""
