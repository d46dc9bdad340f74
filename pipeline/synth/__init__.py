"""The song composer: from a seed to four true stems, for demos and tests."""
