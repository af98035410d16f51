"""Synthetic speech: a voice, what it says, what distracts, and the cue planted in it."""
