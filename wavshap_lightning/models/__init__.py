"""Backbones, heads and the classifier they make."""
