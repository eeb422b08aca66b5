"""What billing takes from the event log: usage to be booked, keys whose caps bind."""
