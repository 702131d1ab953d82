"""The studio: live pictures in a browser, and what a visitor may change. No command line."""
