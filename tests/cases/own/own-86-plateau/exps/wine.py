from .base import Base


class Exp(Base):
    width = 24
    label = "wine"
