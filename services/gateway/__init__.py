"""The gateway: the data plane of the product."""
