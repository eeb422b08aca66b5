"""Work that outlives its request: kept by the jobs service, run by this worker."""
