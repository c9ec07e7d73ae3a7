"""The training loop: objectives, augmentation, learning rates, checkpoints, several processes."""
