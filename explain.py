"""Say what a checkpoint hears in clips."""

from wavshap_lightning.cli.explain import main

if __name__ == "__main__":
    main()
