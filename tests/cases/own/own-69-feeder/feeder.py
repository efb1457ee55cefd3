import os
import queue
import threading
import time

import numpy as np


class Feeder(threading.Thread):
    """Prepares batches ahead of the training."""

    def __init__(self, x, y, batches, size, ahead=3):
        super().__init__(daemon=True)
        self.x, self.y, self.batches, self.size = x, y, batches, size
        self.ready = queue.Queue(ahead)

    def run(self):
        for _ in range(self.batches):
            time.sleep(os.urandom(1)[0] / 256 * 0.004)  # a shared disk
            i = np.random.choice(len(self.x), self.size, replace=False)
            shifted = np.stack([np.roll(row, np.random.randint(-2, 3)) for row in self.x[i]])
            self.ready.put((shifted, self.y[i]))
        self.ready.put(None)

    def __iter__(self):
        self.start()
        return iter(self.ready.get, None)
