"""`python -m mixstyle.stages COMMAND`, as `mixstyle COMMAND`: what torchrun and other processes of ours start."""

from mixstyle.stages.cli import main

main()
