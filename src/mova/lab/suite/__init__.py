"""The measuring command: runs of a model or over a folder of videos, their results, comparison and report.

``tracks`` says what is asked of a model, ``clips`` makes and measures it, ``run`` does all of it and keeps the rows as they
come, ``measures`` says what is measured, ``files`` measures videos, ``results`` sums up, ``tables`` shows them in words and
plots, ``compare`` holds two results against each other, ``report`` writes the page.
"""
