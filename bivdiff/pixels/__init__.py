"""Arrays in, arrays out: masks, tracking, the canvas, metrics and control maps."""
