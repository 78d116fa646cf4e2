"""The agents: how each is configured, called and read. What they share is in `workspace`."""
