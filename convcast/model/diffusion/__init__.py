"""The diffusion process: its noise schedule, its noise prediction, and the solvers that reverse it."""
