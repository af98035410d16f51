"""Metrics of explanations, and tests of how systems compare; independent of how a model is trained."""
