"""How each image model makes frames, one file a model; framewise.py holds the table."""
