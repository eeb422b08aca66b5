"""ClickHouse, Kafka and protobuf behind the ports of the usage service."""
