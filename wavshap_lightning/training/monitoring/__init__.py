"""Explanations of the same clips during training."""
