"""What the gateway knows of other processes: topics, gRPC, files."""
