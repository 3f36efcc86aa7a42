"""Everything that touches the host and is no schema. Uses its public ways only and never patches it."""
