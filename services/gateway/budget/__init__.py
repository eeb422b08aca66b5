"""The worker's money: one purse per key, filled by billing's grants, from which requests hold."""
