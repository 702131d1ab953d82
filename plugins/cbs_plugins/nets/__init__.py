"""Nets and losses that several files share. No plugin."""
