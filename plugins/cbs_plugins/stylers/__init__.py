"""Built-in stylers."""
