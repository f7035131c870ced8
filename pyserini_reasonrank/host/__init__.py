"""All that knows Pyserini. It runs in the search process; only ``java_report`` is also asked elsewhere."""
