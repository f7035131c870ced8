"""Prompts: templates, where they come from, and fitting a query and its passages into a context."""
