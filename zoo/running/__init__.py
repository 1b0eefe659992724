"""
A control run: ``runs``, and its ``models``. Of every run: ``folders`` it writes to, ``callback`` and ``progress``, and ``quiet`` libraries.
"""
