"""The benchmark harness: starts the targets, drives the load, accounts the CPU, judges the bars.

What belongs here: measuring, and nothing that the product imports. Everything goes to 127.0.0.1, is bounded in count
and time, and every process that is started is ended by its own pid.
"""
