#!/bin/sh
set -e
for n in "$@"; do python fit.py --until $n; done
