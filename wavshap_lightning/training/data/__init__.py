"""The LightningDataModule, its datasets and the feature cache."""
