#!/bin/sh
# the queue gives two hours only: the job is cut in two
set -e
python leafnet.py --until "${FIRST:-2}"
python leafnet.py --until 4 --resume
