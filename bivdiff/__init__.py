"""BIVDiff Studio's library: usable from Python, from the command line and from the tabs alike."""
