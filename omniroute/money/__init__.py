"""Prices, bills, budgets and quotas as rules: pure, whole numbers, no clock.

Belongs here: what a request costs, when a period begins and ends, what a limit leaves. Must not be here: where prices
and counters are kept, who is asked for them, how they are shown.
"""
