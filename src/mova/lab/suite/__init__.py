"""The measuring command: runs of a model or over a folder of videos, their results, comparison and report.

``rows`` keeps what was measured as it comes, ``tracks`` says what is asked of a model, ``clips`` makes and measures it, ``run``
does all of it, ``files`` measures videos, ``results`` sums up, ``tables`` and ``words`` are for people, ``compare`` holds two
results against each other, ``report`` and ``plots`` write the page.
"""
