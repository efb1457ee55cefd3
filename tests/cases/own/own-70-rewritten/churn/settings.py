from dataclasses import dataclass, field


@dataclass
class Settings:
    data: str = "data/customers.csv"
    epochs: int = 2
    batch: int = 32
    lr: float = 3e-3
    hidden: list = field(default_factory=lambda: [32, 16])
    seed: int = 11
