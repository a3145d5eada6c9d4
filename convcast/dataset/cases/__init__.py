"""Cases for the model: where and when they are drawn, and what is computed for their inputs."""
