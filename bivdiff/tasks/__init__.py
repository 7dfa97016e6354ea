"""Frame by frame: how each image model makes a clip's frames. One file per task; all are generators of `Step`s.

In it: nothing. `FRAMEWISE` in framewise.py is the table of them. Not in it: the bridge (`bivdiff.pipeline`).
"""
