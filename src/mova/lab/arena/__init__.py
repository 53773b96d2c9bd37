"""Human judgement: a blind pairwise page that works offline, its votes, and the ranking that follows from them.

``blind`` finds the videos and copies them under opaque names, ``pairs`` says who meets whom, ``page`` writes the folder for
the raters and the key beside it; ``votes`` reads what comes back, ``davidson`` is the model, ``rank`` the ratings and their
intervals.
"""
