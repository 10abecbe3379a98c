"""Data loading, pre-training, fine-tuning."""
