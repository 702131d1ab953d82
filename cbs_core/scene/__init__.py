"""3D scenes restyled by class: views, votes, colours back to them; no format of a file."""
