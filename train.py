"""Train an emotion head on frozen speech layers; without arguments, run the demo."""

from wavshap_lightning.cli.train import main

if __name__ == "__main__":
    main()
