"""The built-in plugins, one room a kind; each is named by an entry point, as a stranger's is."""
