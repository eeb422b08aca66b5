"""What a logged request is and which requests a filter takes; pure."""
