"""The commands, one thin file each. ``--help`` and listings import neither torch nor plugins."""
