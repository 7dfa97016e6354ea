"""The bridge, scored against the toybox world's truth, and timed."""
