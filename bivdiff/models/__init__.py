"""Models: how components are loaded (loaders.py) and kept (manager.py). Not in it: which there are (catalog.py)."""
