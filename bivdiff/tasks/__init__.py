"""One file per task; each turns source frames and a request into frame-wise frames with its image model."""
