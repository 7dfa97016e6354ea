"""Models: how components are loaded (loaders.py) and kept (manager.py)."""
