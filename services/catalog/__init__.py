"""The catalog service: which models there are, whose they are, what they cost and from when."""
