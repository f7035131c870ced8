"""Models: the catalogue of known checkpoints, their files, the embedded model, and the memory they need."""
