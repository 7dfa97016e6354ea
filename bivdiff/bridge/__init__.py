"""The method: frame by frame, Mixed Inversion, temporal smoothing."""
