"""The version of this copy of the studio; pyproject.toml has the same."""

__version__ = "0.1.0"
