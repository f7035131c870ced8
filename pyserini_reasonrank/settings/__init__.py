"""Settings: the schema, the layers (YAML, checkpoint, file, flags) and the flag parser."""
