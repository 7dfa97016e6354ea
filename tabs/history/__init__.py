"""The tab of the history, a file for each of the things that are done in it."""
