"""Messages on their way to a broker that may be slow, full or away."""
