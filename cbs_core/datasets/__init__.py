"""Labelled sets and samples of them, as files. Nothing that is trained on them."""
