"""A control run: ``runs``, and its ``models``. Of every run: ``folders`` it writes to, ``progress``, and ``quiet`` libraries."""
