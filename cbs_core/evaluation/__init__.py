"""How good and how costly a plugin is, on pictures it has not seen. Nothing that is shown live."""
