"""Every run on the disk, with its files, and presets."""
