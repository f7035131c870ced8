"""From a query and its passages to the chat turns an LLM reads: templates, their sources, and fitting to a context."""
