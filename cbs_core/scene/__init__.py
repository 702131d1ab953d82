"""3D scenes restyled by class: views, votes, and colours back to a texture or to splats; no file format."""
