"""What the user wants: YAML to one frozen value, each error with its place."""
