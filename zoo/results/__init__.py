"""
What runs leave, and what is made of it.

- ``rows``: result files, and summaries of them; ``provenance``: by which command, commit and machine they were made
- ``aggregates``: interquartile means, profiles, probability of improvement
- to read: ``control_table``, ``tables`` (Markdown); to see: ``plots``, ``report_plots``
"""
