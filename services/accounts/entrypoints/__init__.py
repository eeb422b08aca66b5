"""gRPC in, commands out; results in, gRPC out."""
