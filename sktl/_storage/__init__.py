"""Files of our own: models, and values kept from process to process."""
