"""Tools around the nodes: play a bag, score live nodes, the demo, launch arguments."""
