import json
d = json.load(open('labels.json'))
json.dump(dict(sorted(d.items())), open('labels.json', 'w'))
