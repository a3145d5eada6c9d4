"""The parts that the verbs share: the terminal, the common options and the preparation of the process."""
