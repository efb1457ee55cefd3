from .loop import Trainer
from .calls import Plateau, Stopper, History
