"""Who computes: this process, processes of its own with a device each, or actors of a Ray cluster."""
