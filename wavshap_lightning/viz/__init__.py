"""Figures of explanations: panels, each on Axes of its own, and pages made of them."""
