NAME = 'log'
