"""What can be done with each management noun; a function is one transaction. No HTTP, no pages, no wire formats."""
