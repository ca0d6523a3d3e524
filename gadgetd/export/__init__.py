"""A disk given to a host: chosen, held, followed, flushed."""
