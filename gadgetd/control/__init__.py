"""Commands from the shell: the socket, its server and its client."""
