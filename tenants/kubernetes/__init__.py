"""A tenant as a Kubernetes namespace: its bundle, its checks, and who its pods are.

What is rendered here was learned from real API servers; each module says what it relies on.
"""
