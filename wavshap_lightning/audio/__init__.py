"""Sound: files, frames, spectra."""
