"""Many values of a setting: made, scored, and written."""
