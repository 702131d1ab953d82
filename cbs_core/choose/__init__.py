"""From names to things: registries, presets, weights. Nothing that runs them."""
