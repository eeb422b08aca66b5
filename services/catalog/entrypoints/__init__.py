"""Where calls come in: gRPC messages to commands, results to messages."""
