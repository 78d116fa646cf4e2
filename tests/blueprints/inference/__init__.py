"""Tests of the inference views."""
