"""How frames are driven through a pipeline, one file a scheduler."""
