"""Built-in compositors."""
