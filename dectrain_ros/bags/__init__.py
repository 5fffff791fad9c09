"""ROS 2 bags: read, written and their topics chosen, without ROS."""
