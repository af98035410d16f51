"""Train speech-emotion heads on frozen WavLM and explain what they listen to."""
