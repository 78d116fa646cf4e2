"""Our data: tables, statements, what is in memory of them, and how they outlive a crash.

Belongs here: the schema and its migrations, parameterised statements that return records, encryption of stored
credentials, the configuration snapshot, the request-log writer, the facts about each database.
Must not be here: Flask's request, HTTP, decisions about routing or access, ORM objects that leave the package.
"""
