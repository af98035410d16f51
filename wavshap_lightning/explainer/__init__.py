"""From a classifier and a clip to an explanation."""
