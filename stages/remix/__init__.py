"""`mixstyle remix`: cached stems mixed anew, summed and separated again, into a bank of clips."""
