"""The evaluation's tasks: each has a file that renders its clips, measures embeddings of them and shows the figures."""
