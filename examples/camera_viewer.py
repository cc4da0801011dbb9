"""Look at what the camera of camera.py sees, from another process.

The images are read-only views of the camera's memory. Keep one as long as you like (the camera then has one place
less); copy it (``image.copy()``) to change it.
"""

import threading

import heros
from heros import RemoteHERO

camera = RemoteHERO("camera", wait=20)
print("connected by", heros.transport_of(camera))

numbers = []
enough = threading.Event()


def show(image):
    numbers.append(int(image[0, 0]))
    if len(numbers) == 1:
        print("images of", image.shape, image.dtype, "writeable:", image.flags.writeable)
    if len(numbers) == 10:
        enough.set()


camera.frame.connect(show)
enough.wait()
camera.frame.disconnect(show)

camera.exposure = 0.02
print("exposure is now", camera.exposure, "s")
print("ten images, in order:", numbers[:10] == sorted(numbers[:10]))
