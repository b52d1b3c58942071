"""What models of `task: landmarks` answer."""

from lannunet_landmarks import Landmarks as Landmarks
