"""How people word prompts: a grammar that writes endless wordings of what a scene can be, each with what it says."""
