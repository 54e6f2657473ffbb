"""The seams: what tests replace and users extend. Protocols and the values that cross them."""
