"""The limits of keys: leases of requests and tokens from billing, spent here request by request."""
