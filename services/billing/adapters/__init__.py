"""The only place of billing that knows SQL, Kafka and protobuf events."""
