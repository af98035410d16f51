"""Explain the predictions of a speech-emotion model."""

from wavshap_lightning.cli.explain import main

if __name__ == "__main__":
    main()
