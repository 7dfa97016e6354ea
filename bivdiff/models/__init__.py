"""Models: how components are read (loaders), found (hub) and shared by runs (manager)."""
