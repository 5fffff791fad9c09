"""Bags, synthetic places, evaluation and reports, without ROS."""
