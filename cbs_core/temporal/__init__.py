"""What outlives a frame: scenes, motion, identities, statistics. Nothing that knows a plan."""
