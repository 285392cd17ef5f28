"""Files that sktl writes: models, and values shared by processes."""
