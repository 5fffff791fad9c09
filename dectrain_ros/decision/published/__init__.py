"""The published decision (DecTrain): its features, its gain network and its oracle."""
