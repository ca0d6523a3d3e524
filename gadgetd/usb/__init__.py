"""The gadget as a value, the controllers, the link to the host."""
