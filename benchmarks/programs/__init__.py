"""What makes the load: programs in processes of their own, so that their cost is not in what is measured.

A program reads requests, a JSON object a line, and answers each with a line. It ends when its input does, and so does not
outlive who started it.
"""
