"""The files that a training writes: its state, progress, log and model card."""
