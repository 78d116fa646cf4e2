"""Process life: how the server starts, what runs beside requests, how it ends."""
