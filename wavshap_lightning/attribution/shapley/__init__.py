"""Methods that remove spans of frames: Shapley values and their relatives."""
