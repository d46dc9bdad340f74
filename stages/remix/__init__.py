"""`mixstyle remix`: cached stems remixed, summed and separated again, into a bank of clips."""
