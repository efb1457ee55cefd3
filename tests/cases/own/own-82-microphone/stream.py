"""Microphone: a thread fills one block of filter-bank frames, on request at first and then on and on."""
import queue
import random
import threading
import time

import numpy as np

FRAMES, MELS = 32, 12
_hardware = random.SystemRandom()


class Microphone:
    def __init__(self):
        self.block = np.zeros((FRAMES, MELS), np.float32)
        self.wanted, self.ready = queue.Queue(), threading.Event()
        threading.Thread(target=self._record, daemon=True).start()

    def _record(self):
        phase = np.arange(FRAMES)[:, None] * np.linspace(0.1, 1.1, MELS)
        while True:
            number = self.wanted.get()
            self.block[:] = np.sin(phase + number)
            self.ready.set()
            time.sleep(0.03)
            while self.wanted.empty():
                number += 1
                self.block[:] = np.sin(phase + number)
                time.sleep(_hardware.uniform(0.0002, 0.002))

    def read(self, number):
        self.ready.clear()
        self.wanted.put(number)
        self.ready.wait()
        return self.block
