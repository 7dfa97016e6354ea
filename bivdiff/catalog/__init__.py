"""What there is: tasks, image models, families, and what a request is by default."""
