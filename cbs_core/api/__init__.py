"""Python for people: pictures in, pictures out. Nothing that the command line does not do too."""
