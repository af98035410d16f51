"""Recordings of real speech: where they are voiced, and the cue planted there."""
