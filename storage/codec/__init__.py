"""Values to bytes and back, exactly."""
