"""A payment gateway for machines without one: enough of Stripe's API for the `stripe` package.

TEST MODE everywhere: it moves no money, and knows the gateway's test cards alone.
"""
