"""Image files and the network's input: reading, geometry, resizing, windows."""
