"""Training rows: reading labels, drawing passages, labelling with a teacher, writing rows."""
