"""Human judgement: a blind pairwise page that works offline, its votes, and the ranking that follows from them.

``pairs`` who meets whom, ``blind`` videos under opaque names, ``checks`` pairs whose right answer is known, ``page``
writes the folder for the raters and the key beside it; ``votes`` reads what comes back, ``davidson`` is the model,
``rank`` the ratings and their intervals.
"""
