import argparse

from .fit import run
from .settings import Settings


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", default="data/customers.csv")
    p.add_argument("--epochs", type=int, default=2)
    a = p.parse_args()
    run(Settings(data=a.data, epochs=a.epochs))


if __name__ == "__main__":
    main()
