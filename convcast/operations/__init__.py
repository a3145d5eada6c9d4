"""The operations room: whether a machine is ready, and what runs every hour."""
