"""Settings: seven tabs. What is a row of the table of settings is drawn from it; the rest has forms of its own."""
