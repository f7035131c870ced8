"""A judge and a strategy over one engine: questions, calls, scheduling."""
