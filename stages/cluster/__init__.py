"""Stages on a cluster of machines: what an actor is, and Ray, which runs them."""
