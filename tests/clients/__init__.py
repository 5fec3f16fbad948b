"""What the tests let MLflow's own clients do, in processes and environments of their own.

Both versions run the same scripts; where one cannot do a thing, the script says why.
"""
