"""Many clips: a list of jobs, whose truth is on the disk, carried out by one worker or many."""
