"""From a message to a Frame, without ROS: images, lenses, poses and transforms."""
