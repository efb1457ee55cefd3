"""Zoom: both runs again, just around their first divergence, down to the operation.

Owns which stretch is looked at (``window``), running it again (``rerun``), reading what the guest wrote (``log``) and
where the difference came in (``origin``). Refuses to decide what is first: that is the comparison's.
"""
