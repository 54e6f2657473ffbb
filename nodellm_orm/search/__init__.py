"""Search over what was said, and the optional index that makes it quick."""
