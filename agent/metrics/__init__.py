"""/metrics: what the agent knows, for Prometheus. `Metrics` is fed by the loop, `MetricsServer` serves it.

families.py is the table of names; totals.py and culprits.py make counters of ticks; series.py, histograms.py, text.py
and protobuf.py turn a View into bytes; live.py holds the last View; server.py does the I/O. A scrape renders the last
tick and never touches the kernel.
"""
