"""Interfaces, value types and errors: the ground floor, which imports no other room."""
