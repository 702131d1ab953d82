"""Built-in engines that need an extra; ``local`` is the framework's own."""
