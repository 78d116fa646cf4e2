"""Statements, one module per noun: functions that take a connection first and give or take records.

Belongs here: parameterised SQL and the conversion between rows and records. Must not be here: transactions (the caller
of `Database.read` and `.write` opens them), clocks, policy.
"""
