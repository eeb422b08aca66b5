"""The gRPC edges of billing."""
