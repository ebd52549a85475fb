#!/bin/sh
# Runs the work; its output goes line by line to the port that the host listens on.
exec > /dev/vport0p1 2>&1 < /dev/null
/payload/run.sh
echo "seacow-vm-exit $?"
