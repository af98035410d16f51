"""Resolutions of an attribution: frames, layers and neurons, frequency bands, segments."""
