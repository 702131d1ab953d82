"""Sky and grass for CBS: a segmenter with weights and training of its own, and a clip to try it."""
