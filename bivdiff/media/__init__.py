"""The only door to media files."""
