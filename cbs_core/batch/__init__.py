"""Many inputs at once, on an engine's workers: what is cut, handed out, tried again and joined."""
