"""How a module is made fast, one file an accelerator."""
