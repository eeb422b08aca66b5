"""Service tokens and who they speak for."""
