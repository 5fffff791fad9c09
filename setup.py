"""Install the package: as any Python package, or by colcon beside ROS 2."""

from glob import glob

from setuptools import find_packages, setup

NAME = 'dectrain_ros'

setup(
    name=NAME,
    version='0.1.0',
    description='Monocular metric depth that adapts itself online, where the gain is worth it.',
    license='Apache-2.0',
    author='dectrain_ros maintainers',
    python_requires='>=3.10',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={
        f'{NAME}.assets': ['*.safetensors', '*.json'],
        f'{NAME}.evaluation': ['templates/*.j2'],
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        (f'share/{NAME}/launch', glob('launch/*.launch.py')),
        (f'share/{NAME}/config', glob('config/*.yaml') + glob('config/*.xml')),
        (f'share/{NAME}/views', glob('views/*')),
    ],
    # Lower bounds only, at what Ubuntu 22.04 and ROS 2 Humble ship: on a robot torch, NumPy and
    # OpenCV are the system's, and pip must find nothing to replace there. OpenCV is an extra:
    # pip cannot see apt's python3-opencv and would lay its own over it. rclpy and the messages
    # come with ROS; requirements.txt pins everything for a machine without it.
    install_requires=[
        'jinja2>=3.0',
        'joblib>=0.17',
        'matplotlib>=3.5',
        'numpy>=1.21',
        'pyyaml>=5.4',
        'rich>=11.2',
        'rosbags>=0.10',
        'safetensors>=0.4',
        'scipy>=1.8',
        'torch>=2.1',
    ],
    extras_require={
        'opencv': ['opencv-python-headless>=4.5'],
        'ray': ['ray>=2.9'],
        'test': ['pytest'],     # by which colcon test knows what runs the suite
        # People's own models; it brings neither a torch nor torchvision. Folders that version 4
        # wrote are read by 5.
        'transformers': ['transformers>=5.0,<6'],
    },
    zip_safe=False,
    entry_points={
        'console_scripts': [
            f'depth_node = {NAME}.ros.scripts:depth_node',
            f'decision_node = {NAME}.ros.scripts:decision_node',
            f'bag_player = {NAME}.ros.tools.bag_player:main',
            f'live_evaluation = {NAME}.ros.tools.live_evaluation:main',
            f'dectrain = {NAME}.cli:main',
            f'dectrain_demo = {NAME}.ros.tools.demo:main',
        ],
    },
)
