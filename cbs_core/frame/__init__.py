"""One frame: routes, mattes, windows, tiles, styling, compositing. Nothing that drives a stream."""
