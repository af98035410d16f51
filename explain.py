"""Explain the predictions of a speech-emotion model."""

import gc

gc.disable()  # the imports make a million objects that all stay: collecting among them takes two seconds

from wavshap_lightning.cli.explain import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
