"""What chatrelay is compared with: small programs as their libraries' users would write them, each with its own packages.

Their packages are none of the product's: each is installed, at exact versions, into a directory of its own below
``$XDG_CACHE_HOME/chatrelay-benchmarks``, once for each list of packages.
"""
