"""What a training writes: its state, progress, log and model card."""
