"""Training rows: read, drawn, labelled, written."""
