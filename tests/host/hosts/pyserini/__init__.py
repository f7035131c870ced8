"""A host of Pyserini's shape for the start-up file's tests: what is imported and run says so."""
