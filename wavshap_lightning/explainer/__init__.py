"""Where sound, model and attribution meet: a classifier and a clip in, an explanation out."""
