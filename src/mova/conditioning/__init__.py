"""What is given besides words, on the clip's clock: files and arrays to frames, samples and masks."""
