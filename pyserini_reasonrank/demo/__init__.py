"""A test collection that ships with the project: the standard library's documentation, puzzled topics, graded qrels."""
