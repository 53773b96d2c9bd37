"""The measuring command: runs of a model or over a folder of films, their results, comparison and report.

``rows`` keeps what was measured as it comes, ``tracks`` makes and measures clips of a model, ``files`` measures films,
``results`` sums up, ``compare`` holds two results against each other, ``report`` and ``plots`` write the page.
"""
