"""Settings: base.json <- named config <- ~/.chirp.json <- --set on the command line."""
import json
import os


def merge(low, high):
    out = dict(low)
    for k, v in high.items():
        out[k] = merge(out[k], v) if isinstance(v, dict) and isinstance(out.get(k), dict) else v
    return out


def load(name, overrides):
    here = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs")
    conf = json.load(open(os.path.join(here, "base.json")))
    if name:
        conf = merge(conf, json.load(open(os.path.join(here, name + ".json"))))
    personal = os.path.expanduser("~/.chirp.json")
    if os.path.exists(personal):
        conf = merge(conf, json.load(open(personal)))
    for item in overrides:
        key, _, value = item.partition("=")
        at = conf
        *path, last = key.split(".")
        for p in path:
            at = at[p]
        at[last] = json.loads(value)
    return conf
