"""Amazon Bedrock's Converse API: requests in, frames out."""
