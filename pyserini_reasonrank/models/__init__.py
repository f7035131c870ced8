"""From a model name to weights: the catalogue, the hub, the embedded model, memory."""
