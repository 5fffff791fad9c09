"""Source views, replay, training steps and weight versions."""
