"""Speed, memory and correctness of the network on this machine's device, measured within some minutes."""
