"""Reading and writing of ROS 2 bags, and the choice of their topics, without ROS."""
