"""The management API under `/api`: JSON in and out, one module per noun."""
